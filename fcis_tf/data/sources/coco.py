"""COCO-format labels and images as records, with everything that is wrong with them on a list."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fcis_tf.data.records import Instance, Record
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.base import Source, read_picture, tight_box
from fcis_tf.data.sources.faults import Reporter
from fcis_tf.data.sources.json_stream import Span, iterate, read_spans
from fcis_tf.data.sources.segmentation import rasterise
from fcis_tf.errors import FcisError
from fcis_tf.files import file_sha256
from fcis_tf.labels import Labels

KEYS = {"images": ("id", "file_name"), "annotations": (), "categories": ("id", "name")}


class CocoImage(NamedTuple):
    """One entry of the json, whose file has not been read."""

    image_id: int | str
    path: Path
    width: int | None
    height: int | None
    labels: Path  # the json
    annotations: tuple[Span, ...]  # where they are in it: they need not fit into memory


def read_coco(folder: Path, report: Reporter, *, annotations: str | Path) -> Source:
    """The classes and the images of a COCO json, in the order of the file.

    Args:
        folder: of the image files.
        report: called for every entry that is left out.
        annotations: the json.

    Raises:
        FcisError: no such file or folder, or not COCO's structure, or no image at all.
    """
    annotations = Path(annotations)
    if not folder.is_dir():
        raise FcisError(f"{folder}: no such folder of images")
    known: dict[Any, dict[str, Any]] = {}
    found: list[tuple[Any, Any, Any, Span]] = []
    categories = []
    for key, row, span in _rows(annotations):
        if key == "categories":
            categories.append(row)
        elif key == "annotations":
            found.append((row.get("id"), row.get("image_id"), row.get("category_id"), span))
        elif row["id"] in known:
            report(faults.DUPLICATE_IMAGE, f"image {row['id']}")
        else:
            known[row["id"]] = {name: row.get(name) for name in ("file_name", "width", "height")}
    if not known:
        raise FcisError(f"{annotations}: the list 'images' is empty; nothing to convert")
    try:
        labels = Labels.from_categories(categories)
    except (FcisError, TypeError, ValueError) as fault:
        raise FcisError(f"{annotations}: categories: {fault}") from None
    # Only places in the file are kept: millions of annotations need not fit into memory.
    grouped: dict[Any, list[Span]] = {key: [] for key in known}
    seen: set[Any] = set()
    for number, image_id, category, span in found:
        name = _name(number, image_id)
        if is_id(number) and number in seen:
            report(faults.DUPLICATE_ANNOTATION, name)
        elif not is_id(image_id) or image_id not in grouped:
            report(faults.UNKNOWN_IMAGE, name)
        elif category not in labels.ids:
            report(faults.UNKNOWN_CATEGORY, f"{name} with category {category}")
        else:
            grouped[image_id].append(span)
            if is_id(number):
                seen.add(number)
    items = [
        CocoImage(
            key,
            folder / str(image["file_name"]),
            image["width"],
            image["height"],
            annotations,
            tuple(grouped[key]),
        )
        for key, image in known.items()
    ]
    origin = {"kind": "coco", "name": annotations.name, "sha256": file_sha256(annotations)}
    return Source(labels, items, load_record, origin)


def load_record(item: CocoImage, labels: Labels, report: Reporter) -> Record | None:
    """Read the image file and rasterise its annotations; None if the image is not usable."""
    name = f"{item.path.name} (image {item.image_id})"
    picture = read_picture(item.path, name, report, height=item.height, width=item.width)
    if picture is None:
        return None
    try:
        rows = read_spans(item.labels, item.annotations)
    except ValueError:
        raise FcisError(f"{item.labels}: changed while it was converted; run it again") from None
    found = [_instance(row, picture.height, picture.width, labels, report) for row in rows]
    instances = tuple(i for i in found if i is not None)
    if not instances:
        report(faults.NO_INSTANCES, name)
    return Record(str(item.image_id), item.path.name, *picture, instances)


def _instance(
    annotation: dict[str, Any], height: int, width: int, labels: Labels, report: Reporter
) -> Instance | None:
    name = _name(annotation.get("id"), annotation.get("image_id"))
    try:
        x, y, w, h = (float(v) for v in annotation["bbox"])
        finite = all(math.isfinite(v) for v in (x, y, w, h))
    except (KeyError, TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        report(faults.BAD_BOX, f"{name}: {annotation.get('bbox')}")
        return None
    mask = rasterise(annotation.get("segmentation"), height, width)
    if mask is None:
        report(faults.BAD_MASK, name)
        return None
    if not mask.view(bool).any():  # stops at the first pixel
        report(faults.EMPTY_MASK, name)
        return None
    y0, x0 = max(y, 0.0), max(x, 0.0)
    y1, x1 = min(y + h, float(height)), min(x + w, float(width))
    # COCO's own boxes overhang by rounding; a hundredth of a pixel is not reported.
    if max(-y, -x, y + h - height, x + w - width) > 0.01:
        report(faults.CLIPPED, name)
    if y1 - y0 <= 0.0 or x1 - x0 <= 0.0:
        report(faults.MASK_BOX, name)
        y0, x0, y1, x1 = tight_box(mask)
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


def load_json(path: Path) -> dict[str, Any]:
    """The content of a COCO json.

    Raises:
        FcisError: no such file, or not COCO's structure.
    """
    for _ in _rows(path):
        pass
    return json.loads(path.read_bytes())


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any], Span]]:
    """The lists of a COCO json, row by row, each with its key and its place in the file."""
    counts: dict[str, int] = {}
    try:
        for key, row, span in iterate(path):
            if key not in KEYS or (span is None and row != []):
                continue
            number = counts.setdefault(key, 0)
            if span is None:
                continue
            counts[key] += 1
            lacking = [k for k in KEYS[key] if not isinstance(row, dict) or k not in row]
            if lacking or not isinstance(row, dict):
                raise FcisError(f"{path}: {key}[{number}] lacks {lacking or 'its keys'}")
            if key == "images" and not isinstance(row["id"], int | str):
                raise FcisError(
                    f"{path}: images[{number}].id: expected a number or text, found {row['id']!r}"
                )
            yield key, row, span
    except FileNotFoundError:
        raise FcisError(f"{path}: no such annotation file") from None
    except (ValueError, OSError) as fault:
        raise FcisError(f"{path}: not a JSON file with an object ({fault})") from None
    for key in KEYS:
        if key not in counts:
            raise FcisError(f"{path}: expected a COCO json with the list {key!r}, found none")


def is_id(value: Any) -> bool:
    """Whether a json's value can be an id."""
    return isinstance(value, int | float | str)


def _name(number: Any, image_id: Any) -> str:
    return f"annotation {number} of image {image_id}"
