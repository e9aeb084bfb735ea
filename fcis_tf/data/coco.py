"""COCO-format labels and images as records, with everything that is wrong with them on a list."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from fcis_tf.data.images import decode_image, to_rgb
from fcis_tf.data.records import Instance, Record
from fcis_tf.data.segmentation import rasterise
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels

EXIF_ORIENTATION = 0x0112

# Reasons that lose data, and on which --strict stops.
MISSING = "image missing on disk"
UNREADABLE = "file is not a readable image"
OTHER_SIZE = "image size differs from the json"
DUPLICATE_IMAGE = "image id appears twice"
DUPLICATE_ANNOTATION = "annotation id appears twice"
UNKNOWN_IMAGE = "annotation of an unknown image"
UNKNOWN_CATEGORY = "annotation of an unknown category"
BAD_BOX = "box is not four finite numbers"
BAD_MASK = "segmentation is not polygons or RLE of the image's size"
EMPTY_MASK = "segmentation covers no pixel of the image"
# Reasons for a note only: nothing is lost.
CLIPPED = "box overhangs the image, clipped"
MASK_BOX = "box is empty, taken from the mask"
REENCODED = "not JPEG or 8-bit PNG, stored as PNG"
ROTATED = "EXIF rotation ignored, as COCO does"
NO_INSTANCES = "image without instances"
NOTES = (CLIPPED, MASK_BOX, REENCODED, ROTATED, NO_INSTANCES)

# Called with a reason and what it happened to, for example "annotation 17 of image 42".
Tell = Callable[[str, str], None]


class Source(NamedTuple):
    """One entry of the json, not yet looked at on disk."""

    image_id: int | str
    path: Path
    width: int | None
    height: int | None
    annotations: tuple[dict[str, Any], ...]


def read_coco(images: Path, annotations: Path, tell: Tell) -> tuple[Labels, list[Source]]:
    """The classes and the images of a COCO json, in the order of the file.

    Args:
        images: folder of the image files.
        annotations: the json.
        tell: told of every entry that is dropped.

    Raises:
        FcisError: no such file or folder, or not COCO's structure, or no image at all.
    """
    content = _load(annotations)
    if not images.is_dir():
        raise FcisError(f"{images}: no such folder of images")
    if not content["images"]:
        raise FcisError(f"{annotations}: the list 'images' is empty; nothing to convert")
    try:
        labels = Labels.from_categories(content["categories"])
    except (FcisError, TypeError, ValueError) as fault:
        raise FcisError(f"{annotations}: categories: {fault}") from None
    known: dict[Any, dict[str, Any]] = {}
    for image in content["images"]:
        if image["id"] in known:
            tell(DUPLICATE_IMAGE, f"image {image['id']}")
        else:
            known[image["id"]] = image
    grouped: dict[Any, list[dict[str, Any]]] = {key: [] for key in known}
    seen: set[Any] = set()
    for annotation in content["annotations"]:
        name, number, image_id = _name(annotation), annotation.get("id"), annotation.get("image_id")
        if _is_id(number) and number in seen:
            tell(DUPLICATE_ANNOTATION, name)
        elif not _is_id(image_id) or image_id not in grouped:
            tell(UNKNOWN_IMAGE, name)
        elif annotation.get("category_id") not in labels.ids:
            tell(UNKNOWN_CATEGORY, f"{name} with category {annotation.get('category_id')}")
        else:
            grouped[image_id].append(annotation)
            if _is_id(number):
                seen.add(number)
    sources = [
        Source(
            key,
            images / str(image["file_name"]),
            image.get("width"),
            image.get("height"),
            tuple(grouped[key]),
        )
        for key, image in known.items()
    ]
    return labels, sources


def load_record(source: Source, labels: Labels, tell: Tell) -> Record | None:
    """Read the image file and rasterise its annotations; None if the image is not usable."""
    name = f"{source.path.name} (image {source.image_id})"
    try:
        encoded = source.path.read_bytes()
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
            width, height = image.size
            if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
                tell(ROTATED, name)
            plain = image.format in ("JPEG", "PNG") and image.mode in ("RGB", "L")
            kind = str(image.format).lower()
            if not plain:
                tell(REENCODED, f"{name}, {image.format} {image.mode}")
                buffer = io.BytesIO()
                to_rgb(image).save(buffer, "PNG")
                encoded, kind = buffer.getvalue(), "png"
        # Pillow overlooks a lost end; what training could not decode must not get in.
        decode_image(tf.constant(encoded))
    except FileNotFoundError:
        tell(MISSING, str(source.path))
        return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        tell(UNREADABLE, f"{source.path}: {fault}")
        return None
    except tf.errors.InvalidArgumentError:
        tell(UNREADABLE, f"{source.path}: damaged {kind.upper()}")
        return None
    if (source.width or width, source.height or height) != (width, height):
        tell(OTHER_SIZE, f"{name}: {source.width}x{source.height} in the json, {width}x{height}")
        return None
    found = [_instance(a, height, width, labels, tell) for a in source.annotations]
    instances = tuple(i for i in found if i is not None)
    if not instances:
        tell(NO_INSTANCES, name)
    return Record(str(source.image_id), source.path.name, encoded, kind, height, width, instances)


def _instance(
    annotation: dict[str, Any], height: int, width: int, labels: Labels, tell: Tell
) -> Instance | None:
    name = _name(annotation)
    try:
        x, y, w, h = (float(v) for v in annotation["bbox"])
        finite = all(math.isfinite(v) for v in (x, y, w, h))
    except (KeyError, TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        tell(BAD_BOX, f"{name}: {annotation.get('bbox')}")
        return None
    mask = rasterise(annotation.get("segmentation"), height, width)
    if mask is None:
        tell(BAD_MASK, name)
        return None
    if not mask.any():
        tell(EMPTY_MASK, name)
        return None
    y0, x0 = max(y, 0.0), max(x, 0.0)
    y1, x1 = min(y + h, float(height)), min(x + w, float(width))
    # COCO's own boxes overhang by rounding; a hundredth of a pixel is not worth a word.
    if max(-y, -x, y + h - height, x + w - width) > 0.01:
        tell(CLIPPED, name)
    if y1 - y0 <= 0.0 or x1 - x0 <= 0.0:
        tell(MASK_BOX, name)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        y0, x0, y1, x1 = map(float, (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1))
    category = int(annotation["category_id"])
    area = annotation.get("area")
    if not (isinstance(area, int | float) and math.isfinite(area) and area > 0):
        area = mask.sum()
    return Instance(
        (y0, x0, y1, x1),
        category,
        labels.names[labels.ids.index(category)],
        mask,
        bool(annotation.get("iscrowd", 0)),
        float(area),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FcisError(f"{path}: no such annotation file") from None
    except (ValueError, OSError) as fault:
        raise FcisError(f"{path}: not a JSON file ({fault})") from None
    for key, inner in (
        ("images", ("id", "file_name")),
        ("annotations", ()),
        ("categories", ("id", "name")),
    ):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise FcisError(f"{path}: expected a COCO json with the list {key!r}, found none")
        for number, row in enumerate(rows):
            lacking = [k for k in inner if not isinstance(row, dict) or k not in row]
            if lacking or not isinstance(row, dict):
                raise FcisError(f"{path}: {key}[{number}] lacks {lacking or 'its keys'}")
            if key == "images" and not isinstance(row["id"], int | str):
                raise FcisError(
                    f"{path}: images[{number}].id: expected a number or text, found {row['id']!r}"
                )
    return content


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _name(annotation: dict[str, Any]) -> str:
    return f"annotation {annotation.get('id')} of image {annotation.get('image_id')}"
