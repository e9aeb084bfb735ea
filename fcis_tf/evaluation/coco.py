"""COCO average precision of masks and boxes.

faster-coco-eval does the matching; a test holds it equal to pycocotools.
"""

import contextlib
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from fcis_tf.errors import FcisError
from fcis_tf.evaluation.annotations import number_images
from fcis_tf.evaluation.metrics import STATISTICS, Metrics
from fcis_tf.evaluation.overlaps import Columns, columns, overlaps
from fcis_tf.evaluation.results import check
from fcis_tf.labels import Labels

if TYPE_CHECKING:  # it reads TFRecords, which scoring a results file does without
    from fcis_tf.data.records import Record

NOTHING_FOUND = "no detections at all: nothing was found in any image"

MOST_DETECTIONS = 100  # of an image that count


def ground_truth(records: "Iterable[Record]", labels: Labels) -> dict[str, Any]:
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
    number_images(images, annotations)
    categories = [{"id": i, "name": n} for i, n in zip(labels.ids, labels.names, strict=True)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


class AveragePrecision(NamedTuple):
    """What matching by one kind of overlap gave."""

    statistics: dict[str, float]  # the twelve numbers
    precision: np.ndarray  # (10, 101, C, 4) by IoU threshold, recall, class and size
    recall: np.ndarray  # (10, C, 4); both are -1 where a class has no instances

    def average(self, label: int, *, thresholds: slice = slice(None), size: int = 0) -> float:
        """AP of the class number `label` of 1..C; sizes are all, small, medium, large."""
        return _mean(self.precision[thresholds, :, label - 1, size])


def average_precision(
    truth: dict[str, Any],
    instances: Columns,
    detections: Columns,
    labels: Labels,
    kind: str,
    iou: list[np.ndarray],
) -> AveragePrecision:
    """COCO's average precision and recall for overlaps of any kind.

    Args:
        truth: a COCO data set, as `ground_truth` makes it.
        instances: its annotations.
        detections: at most 100 of an image and class count, the best.
        labels: the classes.
        kind: whether a detection is as large as its mask or as its box.
        iou: for each image (D_i, G_i), see `overlaps`.
    """
    from faster_coco_eval import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO(truth)
        found = COCO(truth | {"annotations": _sized(detections, kind)})
        matcher = _matcher(gold, found, instances, detections, labels, iou)
        matcher.evaluate()
        matcher.accumulate()
        matcher.summarize()
    return AveragePrecision(
        dict(zip(STATISTICS, map(float, matcher.stats), strict=False)),
        np.asarray(matcher.eval["precision"])[..., -1],
        np.asarray(matcher.eval["recall"])[..., -1],
    )


def evaluate(truth: dict[str, Any], found: list[dict[str, Any]], labels: Labels) -> Metrics:
    """The AP of masks and boxes, and nothing that takes longer; `measure` has it all.

    Args:
        truth: a COCO data set, as `ground_truth` makes it.
        found: COCO results with its image ids and the category ids of `labels`; at most 100 of an
            image and class count, the best.
        labels: the classes; the rows of ``per_class`` are in their order.

    Raises:
        FcisError: no ground truth, or results of unknown images or categories, with masks of
            another size than their image, or with scores that are not numbers.
    """
    check(truth, found, labels)
    instances, detections = (columns(r, truth, labels) for r in (truth["annotations"], found))
    matched = {
        kind: average_precision(
            truth, instances, detections, labels, kind, overlaps(instances, detections, kind)
        )
        for kind in ("mask", "box")
    }
    return Metrics(
        matched["mask"].statistics,
        matched["box"].statistics,
        per_class=per_class(instances, labels, matched),
        images=len(truth["images"]),
        message="" if found else NOTHING_FOUND,
    )


def per_class(
    instances: Columns, labels: Labels, matched: dict[str, AveragePrecision]
) -> list[dict[str, Any]]:
    """A row for every class: its APs by kind of overlap, and of masks by threshold and size."""
    rows = []
    for label, name in enumerate(labels.names, start=1):
        counted = (instances.label == label) & ~instances.crowd
        row: dict[str, Any] = {"name": name, "instances": int(np.count_nonzero(counted))}
        row |= {f"{kind}_AP": part.average(label) for kind, part in matched.items()}
        if "mask" in matched:
            mask = matched["mask"]
            row["mask_AP50"] = mask.average(label, thresholds=slice(0, 1))
            row["mask_AP75"] = mask.average(label, thresholds=slice(5, 6))
            row |= {f"mask_AP{s}": mask.average(label, size=n) for n, s in enumerate("sml", 1)}
        rows.append(row)
    return rows


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Compressed RLE of a (H, W) mask, its counts as text."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def _sized(detections: Columns, kind: str) -> list[dict[str, Any]]:
    """What the matcher has to know of detections; it reads no mask and no box."""
    if kind == "box":
        areas = [row["bbox"][2] * row["bbox"][3] for row in detections.rows]
    else:
        masks = [row["segmentation"] for row in detections.rows]
        if kind == "enclosing":
            areas = [float(width * height) for _, _, width, height in map(coco_mask.toBbox, masks)]
        else:
            areas = [float(coco_mask.area(mask)) for mask in masks]
    return [
        {"id": number, "area": area, "bbox": [0, 0, 0, 0]}
        | {key: row[key] for key in ("image_id", "category_id", "score")}
        for number, (row, area) in enumerate(zip(detections.rows, areas, strict=True), start=1)
    ]


def _matcher(
    gold: Any,
    found: Any,
    instances: Columns,
    detections: Columns,
    labels: Labels,
    iou: list[np.ndarray],
) -> Any:
    """faster-coco-eval, given the overlaps instead of computing them."""
    from faster_coco_eval import COCOeval_faster

    place = {
        image_id: i for i, image_id in enumerate(image["id"] for image in gold.dataset["images"])
    }
    number = {category: n for n, category in enumerate(labels.ids, start=1)}

    class Matcher(COCOeval_faster):
        def computeIoU(self, imgId: int, catId: int) -> np.ndarray:
            image, label = place[imgId], number[catId]
            rows, cells = (
                np.flatnonzero(part.label[part.of(image)] == label)
                for part in (detections, instances)
            )
            return iou[image][np.ix_(rows[: self.params.maxDets[-1]], cells)]

    return Matcher(gold, found, "bbox", print_function=lambda *_, **__: None)


def _mean(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else -1.0
