"""COCO average precision of masks and boxes.

faster-coco-eval does the matching; a test holds it equal to pycocotools.
"""

import contextlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.table import Table

from fcis_tf.data.records import Record
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels

STATISTICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip

MOST_DETECTIONS = 100  # of an image that count


@dataclass
class Metrics:
    """The twelve COCO numbers of masks and of boxes, and a row for every class.

    A number is -1, shown as "-", where there is nothing to measure it on.
    """

    mask: dict[str, float]
    box: dict[str, float]
    per_class: list[dict[str, Any]] = field(default_factory=list)
    images: int = 0
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "mask": self.mask,
            "box": self.box,
            "per_class": self.per_class,
            "images": self.images,
            "message": self.message,
        }

    def table(self, most: int = 100) -> str:
        """The numbers as text, with at most so many classes."""
        total = Table("", *STATISTICS, title=f"{self.images} images")
        for kind, values in (("mask", self.mask), ("box", self.box)):
            total.add_row(kind, *(_show(values[name]) for name in STATISTICS))
        classes = Table("class", "instances", "mask AP", "mask AP50", "box AP")
        for row in self.per_class[:most]:
            numbers = (_show(row[key]) for key in ("mask_AP", "mask_AP50", "box_AP"))
            classes.add_row(row["name"], str(row["instances"]), *numbers)
        console = Console(file=io.StringIO(), width=120, color_system=None)
        console.print(total)
        console.print(classes)
        text = console.file.getvalue().rstrip()  # type: ignore[attr-defined]
        return f"{text}\n{self.message}" if self.message else text


def ground_truth(records: Iterable[Record], labels: Labels) -> dict[str, Any]:
    """The COCO data set of some records: images, annotations, categories.

    Image ids that are numbers stay numbers; if any is not, or two are the same number, images are
    numbered from 1. ``source_id`` keeps the id of the record.

    Raises:
        FcisError: an instance of a category that is not in `labels`.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        images.append(
            {
                "id": number,
                "source_id": record.image_id,
                "file_name": record.filename,
                "height": record.height,
                "width": record.width,
            }
        )
        for instance in record.instances:
            if instance.category_id not in labels.ids:
                raise FcisError(
                    f"image {record.image_id}: category id {instance.category_id} "
                    f"({instance.name!r}) is not among the {len(labels)} classes of the labels; "
                    "evaluate with the labels the records were written with"
                )
            y0, x0, y1, x1 = instance.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": instance.category_id,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": instance.area,
                    "iscrowd": int(instance.crowd),
                    "segmentation": encode_mask(instance.mask),
                }
            )
    sources = [image["source_id"] for image in images]
    numbers = [int(source) for source in sources if source.isdecimal()]
    if len(set(numbers)) == len(sources):
        for image, number in zip(images, numbers, strict=True):
            image["id"] = number
        for annotation in annotations:
            annotation["image_id"] = numbers[annotation["image_id"] - 1]
    categories = [{"id": i, "name": n} for i, n in zip(labels.ids, labels.names, strict=True)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def results(
    image_id: int | str,
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    masks: np.ndarray,
    labels: Labels,
) -> list[dict[str, Any]]:
    """COCO results of one image.

    Args:
        image_id: as in the ground truth.
        boxes: (n, 4) (y0, x0, y1, x1) in pixels of the original image.
        classes: (n,) in 1..C.
        scores: (n,).
        masks: (n, H, W) bool.
        labels: the classes.

    Raises:
        FcisError: a class number outside 1..C.
    """
    strange = [int(number) for number in classes if not 1 <= number <= len(labels)]
    if strange:
        raise FcisError(
            f"image {image_id}: expected class numbers in 1..{len(labels)}, found {strange[0]}; "
            "the model and the labels do not belong together"
        )
    return [
        {
            "image_id": image_id,
            "category_id": labels.ids[int(number) - 1],
            "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
            "score": float(score),
            "segmentation": encode_mask(mask),
        }
        for (y0, x0, y1, x1), number, score, mask in zip(boxes, classes, scores, masks, strict=True)
    ]


def evaluate(truth: dict[str, Any], found: list[dict[str, Any]], labels: Labels) -> Metrics:
    """The metrics of COCO results.

    Args:
        truth: a COCO data set, as `ground_truth` makes it.
        found: COCO results with its image ids and the category ids of `labels`; at most 100 of an
            image count, the best.
        labels: the classes; the rows of ``per_class`` are in their order.

    Raises:
        FcisError: no ground truth, or results of unknown images or categories, with masks of
            another size than their image, or with scores that are not numbers.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    _check(truth, found, labels)
    judges = {}
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO(truth)
        detections = gold.loadRes([dict(row) for row in found])
        for kind in ("segm", "bbox"):
            judge = COCOeval_faster(gold, detections, kind, print_function=lambda *a, **k: None)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            judges[kind] = judge
    totals = {
        kind: dict(zip(STATISTICS, map(float, judge.stats), strict=False))
        for kind, judge in judges.items()
    }
    counts = Counter(row["category_id"] for row in truth["annotations"] if not row["iscrowd"])
    per_class = []
    for number, (category, name) in enumerate(zip(labels.ids, labels.names, strict=True)):
        mask, box = (_class_precision(judges[kind], number) for kind in ("segm", "bbox"))
        per_class.append(
            {
                "name": name,
                "instances": counts[category],
                "mask_AP": _mean(mask),
                "mask_AP50": _mean(mask[:1]),
                "box_AP": _mean(box),
            }
        )
    message = "" if found else "no detections at all: nothing was found in any image"
    return Metrics(totals["segm"], totals["bbox"], per_class, len(truth["images"]), message)


def save_results(found: list[dict[str, Any]], path: Path) -> None:
    """Write COCO results json; the file appears only when it is whole."""
    partial = path.with_name("partial." + path.name)
    partial.write_text(json.dumps(found))
    os.replace(partial, path)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Compressed RLE of a (H, W) mask, its counts as text."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def _check(truth: dict[str, Any], found: list[dict[str, Any]], labels: Labels) -> None:
    """What the matcher would silently score as misses is a fault of the input here."""
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
            f"results: {len(strangers)} image ids are not in the ground truth, "
            f"first {_first(strangers)}"
        )
    unknown = {row["category_id"] for row in found} - set(labels.ids)
    if unknown:
        raise FcisError(
            f"results: {len(unknown)} category ids are not in the labels, first {_first(unknown)}"
        )
    for row in found:
        if row["segmentation"]["size"] != sizes[row["image_id"]]:
            raise FcisError(
                f"results: image {row['image_id']} is {sizes[row['image_id']]} (height, width), "
                f"found a mask of {row['segmentation']['size']}"
            )
        if not math.isfinite(row["score"]):
            raise FcisError(
                f"results: image {row['image_id']} has score {row['score']}, not a finite number"
            )


def _first(ids: Iterable[int | str], most: int = 3) -> str:
    ordered = sorted(ids, key=lambda i: (isinstance(i, str), i))
    return ", ".join(map(str, ordered[:most])) + (", ..." if len(ordered) > most else "")


def _class_precision(judge: Any, number: int) -> np.ndarray:
    """Precision (thresholds, recalls) of one class over all sizes with 100 detections."""
    return np.asarray(judge.eval["precision"])[:, :, number, 0, -1]


def _mean(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else -1.0


def _show(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"
