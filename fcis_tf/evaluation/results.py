"""COCO results of any tool: read, checked, and refused if they are something else."""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from fcis_tf.data.sources.segmentation import first_damaged, to_rle
from fcis_tf.errors import FcisError
from fcis_tf.evaluation.annotations import is_box, is_id, read_json
from fcis_tf.labels import Labels

OVERHANG = 1.0  # pixels by which a box may leave its image without being suspect
SUSPECT = 0.1  # of the boxes, that must leave their images as [x, y, width, height]


def load_results(path: Path, truth: dict[str, Any], labels: Labels) -> list[dict[str, Any]]:
    """The results of a file, each with a box, and with a mask if any has one.

    Images may be named by id, or by the file name or record id that the ground truth has for them.

    Args:
        path: a JSON list of {image_id, category_id, score, bbox and/or segmentation}.
        truth: a COCO data set with numbers as image ids.
        labels: its classes.

    Raises:
        FcisError: what is wrong with the file.
    """
    rows = read_json(path)
    if isinstance(rows, dict):
        raise FcisError(
            f"{path}: expected a list of results, found an object with {_first(rows)}; "
            "a COCO data set goes to --annotations"
        )
    if not isinstance(rows, list):
        raise FcisError(f"{path}: expected a list of results, found {type(rows).__name__}")
    images = _names(truth)
    categories = {number: number for number in labels.ids}
    found = []
    for number, row in enumerate(rows):
        where = f"{path}: result {number}"
        if not isinstance(row, dict):
            raise FcisError(f"{where}: expected an object, found {str(row)[:60]}")
        lacking = [key for key in ("image_id", "category_id", "score") if key not in row]
        if lacking:
            raise FcisError(f"{where}: lacks {', '.join(lacking)}; found {_first(row, 6)}")
        made = {"score": row["score"]}
        for key, known in (("image_id", images), ("category_id", categories)):
            if not is_id(row[key]):
                raise FcisError(f"{where}: {key} {row[key]!r} is no number or name")
            made[key] = known.get(row[key], row[key])
        if row.get("segmentation"):
            made["segmentation"] = row["segmentation"]
        if is_box(row.get("bbox")):
            made["bbox"] = [float(value) for value in row["bbox"]]
        elif row.get("bbox") or "segmentation" not in made:
            raise FcisError(
                f"{where}: expected bbox [x, y, width, height] or a segmentation, "
                f"found {row.get('bbox')}"
            )
        found.append(made)
    check(truth, found, labels, str(path))
    _check_kinds(found, str(path))
    _check_boxes(truth, found, str(path))
    return found


def check(
    truth: dict[str, Any], found: list[dict[str, Any]], labels: Labels, name: str = "results"
) -> None:
    """Refuse what the matcher would silently score as misses.

    Polygons and uncompressed RLE become RLE, in place.

    Raises:
        FcisError: nothing to measure, or results that do not belong to the ground truth.
    """
    if all(annotation["iscrowd"] for annotation in truth["annotations"]):
        raise FcisError(
            "evaluation: the ground truth has no instance other than crowds; nothing to measure"
        )
    listed = sorted(category["id"] for category in truth["categories"])
    if listed != list(labels.ids):
        raise FcisError(
            f"evaluation: the ground truth has category ids {_first(listed)}, "
            f"the labels have {_first(labels.ids)}; use the same label file for both"
        )
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
    strangers = {row["image_id"] for row in found} - sizes.keys()
    if strangers:
        raise FcisError(
            f"{name}: {len(strangers)} image ids are not in the ground truth, "
            f"first {_first(strangers)}; it has {_first(sizes)}"
        )
    unknown = {row["category_id"] for row in found} - set(labels.ids)
    if unknown:
        raise FcisError(
            f"{name}: {len(unknown)} category ids are not in the labels, first {_first(unknown)}; "
            f"they have {_first(labels.ids)}: ids of categories, not numbers of network outputs"
        )
    for row in found:
        score = row["score"]
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise FcisError(
                f"{name}: image {row['image_id']} has score {score!r}, not a finite number"
            )
    masked = [row for row in found if "segmentation" in row]
    for row in masked:
        row["segmentation"] = _mask(row, sizes[row["image_id"]], name)
    damaged = first_damaged([row["segmentation"] for row in masked])
    if damaged is not None:
        raise _no_mask(masked[damaged], name)
    for row in masked:
        if "bbox" not in row:
            row["bbox"] = coco_mask.toBbox(row["segmentation"]).tolist()


def _mask(row: dict[str, Any], size: list[int], name: str) -> dict[str, Any]:
    """The mask of a result as compressed RLE."""
    mask = row["segmentation"]
    if isinstance(mask, dict) and list(mask.get("size", ())) != size:
        raise FcisError(
            f"{name}: image {row['image_id']} is {size} (height, width), "
            f"found a mask of {mask.get('size')}"
        )
    # The text of ordinary RLE is only read: rewriting it would take longer than matching.
    if isinstance(mask, dict) and isinstance(mask.get("counts"), str):
        return mask
    rle = to_rle(mask, *size)
    if rle is None:
        raise _no_mask(row, name)
    return rle


def _no_mask(row: dict[str, Any], name: str) -> FcisError:
    return FcisError(
        f"{name}: image {row['image_id']} has a segmentation that is neither RLE nor polygons"
    )


def _check_kinds(found: list[dict[str, Any]], name: str) -> None:
    masked = sum("segmentation" in row for row in found)
    if masked not in (0, len(found)):
        first = next(n for n, row in enumerate(found) if "segmentation" not in row)
        raise FcisError(
            f"{name}: {len(found) - masked} of {len(found)} results have no segmentation, first "
            f"result {first}; give all of them one, or none to score boxes only"
        )


def _check_boxes(truth: dict[str, Any], found: list[dict[str, Any]], name: str) -> None:
    """COCO's boxes are [x, y, width, height]; corners and parts of the image are common faults."""
    if not found:
        return
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    size = np.array([sizes[row["image_id"]] for row in found], np.float64)
    boxes = np.array([row["bbox"] for row in found])
    limit = size + OVERHANG
    overhanging = np.mean((boxes[:, :2] + boxes[:, 2:] > limit).any(1))
    corners = ((boxes[:, 2:] >= boxes[:, :2]) & (boxes[:, 2:] <= limit)).all()
    if overhanging >= SUSPECT and corners:
        raise FcisError(
            f"{name}: boxes seem to be [x0, y0, x1, y1]: as [x, y, width, height] "
            f"{overhanging:.0%} of them leave their image; set width = x1 - x0, height = y1 - y0"
        )
    if (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, 2:] < 1).any():
        raise FcisError(
            f"{name}: boxes seem to be fractions of the image, all numbers are within 0..1; "
            "multiply them by its width and height"
        )
    if (boxes[:, 2:] < 0).any():
        first = int(np.flatnonzero((boxes[:, 2:] < 0).any(1))[0])
        raise FcisError(f"{name}: result {first} has a negative width or height: {boxes[first]}")


def _names(truth: dict[str, Any]) -> dict[Any, int]:
    """Image ids by all that names an image: ids, and other names that mean one image only."""
    known = {image["id"] for image in truth["images"]}
    other = [
        (name, image["id"])
        for image in truth["images"]
        for name in {image.get("source_id"), image.get("file_name")} - {None}
    ]
    often = Counter(name for name, _ in other)
    named = {name: i for name, i in other if often[name] == 1 and name not in known}
    return named | {number: number for number in known}


def _first(ids: Iterable[Any], most: int = 3) -> str:
    ordered = sorted(ids, key=lambda i: (isinstance(i, str), i))
    return ", ".join(map(str, ordered[:most])) + (", ..." if len(ordered) > most else "")
