"""Ground truth from a COCO json alone, without its images and without TensorFlow."""

import json
import math
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from fcis_tf.data.sources.segmentation import to_rle
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels


def load_annotations(path: Path) -> tuple[dict[str, Any], Labels]:
    """The data set and the classes of ``instances.json``, every mask as RLE.

    Instances without masks are allowed if none has any: then boxes can be scored. Image ids that
    are not numbers are numbered, see `number_images`.

    Raises:
        FcisError: not a COCO data set, or an annotation that cannot be scored.
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise FcisError(f"{path}: expected a COCO data set with the list {key!r}, found none")
    labels = Labels.load(path)
    images = [_image(image, f"{path}: images[{n}]") for n, image in enumerate(content["images"])]
    by_id = {image["id"]: image for image in images}
    if len(by_id) != len(images):
        raise FcisError(f"{path}: {len(images) - len(by_id)} image ids appear twice")
    annotations = []
    for number, row in enumerate(content["annotations"], start=1):
        if not isinstance(row, dict):
            raise FcisError(f"{path}: annotations[{number - 1}]: expected an object, found {row!r}")
        where = f"{path}: annotation {row.get('id', number)}"
        if not is_id(row.get("image_id")) or row["image_id"] not in by_id:
            raise FcisError(f"{where}: image_id {row.get('image_id')!r} is not among the images")
        if row.get("category_id") not in labels.ids:
            raise FcisError(
                f"{where}: category_id {row.get('category_id')!r} is not among the categories"
            )
        annotations.append(_annotation(row, number, by_id[row["image_id"]], where))
    masked = sum("segmentation" in row for row in annotations)
    if masked not in (0, len(annotations)):
        raise FcisError(
            f"{path}: {len(annotations) - masked} of {len(annotations)} annotations have no "
            "segmentation; give all of them one, or none to score boxes only"
        )
    for image in images:
        image["source_id"] = str(image["id"])
    if not all(isinstance(image["id"], int) for image in images):
        number_images(images, annotations)
    return content | {"images": images, "annotations": annotations}, labels


def number_images(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    """Make every image id a number, in place: the source id if all are distinct numbers, else 1...

    Args:
        images: with "source_id", text.
        annotations: with the "image_id" of an image.
    """
    sources = [image["source_id"] for image in images]
    numbers = [int(source) for source in sources if source.isdecimal()]
    if len(set(numbers)) != len(sources):
        numbers = list(range(1, len(sources) + 1))
    renamed = {image["id"]: number for image, number in zip(images, numbers, strict=True)}
    for image in images:
        image["id"] = renamed[image["id"]]
    for annotation in annotations:
        annotation["image_id"] = renamed[annotation["image_id"]]


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FcisError: there is none.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FcisError(f"{path}: no such file") from None
    except (ValueError, OSError) as fault:
        raise FcisError(f"{path}: not a JSON file ({fault})") from None


def _image(image: Any, where: str) -> dict[str, Any]:
    if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
        raise FcisError(f"{where}: expected an entry with an id, found {str(image)[:60]}")
    sides = [image.get("height"), image.get("width")]
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise FcisError(f"{where}: expected whole numbers height and width, found {sides}")
    return dict(image)


def _annotation(
    row: dict[str, Any], number: int, image: dict[str, Any], where: str
) -> dict[str, Any]:
    """One annotation with all that matching reads; ids of annotations are their places."""
    made = {
        "id": number,
        "image_id": image["id"],
        "category_id": int(row["category_id"]),
        "iscrowd": int(bool(row.get("iscrowd", 0))),
    }
    area = row.get("area")
    if row.get("segmentation"):
        rle = to_rle(row["segmentation"], image["height"], image["width"])
        if rle is None:
            raise FcisError(
                f"{where}: segmentation is not polygons or RLE of its image's size "
                f"{image['height']} x {image['width']}"
            )
        made["segmentation"] = rle
        area = float(coco_mask.area(rle)) if area is None else area
        row = {"bbox": coco_mask.toBbox(rle).tolist()} | row
    if not is_box(row.get("bbox")):
        raise FcisError(
            f"{where}: expected bbox [x, y, width, height] or a segmentation, "
            f"found {row.get('bbox')}"
        )
    made["bbox"] = [float(value) for value in row["bbox"]]
    made["area"] = float(made["bbox"][2] * made["bbox"][3] if area is None else area)
    return made


def is_id(value: Any) -> bool:
    """Whether it can name an image: 7, 7.0 and "7" can."""
    return isinstance(value, int | float | str)


def is_box(value: Any) -> bool:
    """Whether it is four finite numbers."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 4
        and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
    )
