"""Everything that is measured of one set of results, for the tables and for the report."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fcis_tf.evaluation import coco, tide, voc
from fcis_tf.evaluation.metrics import KINDS, Metrics
from fcis_tf.evaluation.operating import Operating, operating_point
from fcis_tf.evaluation.overlaps import Columns, columns, overlaps, pairs
from fcis_tf.evaluation.results import check
from fcis_tf.labels import Labels

BOXES_ONLY = "no masks: only boxes were scored"


class Evaluation(NamedTuple):
    """Results, what they were compared with, and what that gave."""

    truth: dict[str, Any]  # COCO data set
    labels: Labels
    instances: Columns
    detections: Columns
    matched: dict[str, coco.AveragePrecision]  # by kind of overlap
    errors: tide.Errors  # of masks; of boxes if there are no masks
    operating: Operating
    metrics: Metrics


def measure(
    truth: dict[str, Any],
    found: list[dict[str, Any]],
    labels: Labels,
    *,
    speed: dict[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """All metrics of COCO results, and the analysis of their errors.

    Args:
        truth: a COCO data set, as `ground_truth` or `load_annotations` makes it.
        found: COCO results; without masks, or without masks in `truth`, only boxes are scored.
        labels: the classes.
        speed: of the prediction, to go with the metrics.
        progress: called with (done, total) steps.

    Raises:
        FcisError: see `check`.
    """
    check(truth, found, labels)
    masked = all("segmentation" in row for row in [*found, *truth["annotations"]])
    instances, detections = (columns(r, truth, labels) for r in (truth["annotations"], found))
    classes = len(labels)
    iou: dict[str, list[np.ndarray]] = {}
    matched: dict[str, coco.AveragePrecision] = {}
    kinds = [kind for kind in KINDS if masked or kind == "box"]
    for done, kind in enumerate(kinds):
        if progress:
            progress(done, len(kinds) + 1)
        iou[kind] = overlaps(instances, detections, kind)
        matched[kind] = coco.average_precision(
            truth, instances, detections, labels, kind, iou[kind]
        )
    if progress:
        progress(len(kinds), len(kinds) + 1)
    rows = coco.per_class(instances, labels, matched)
    regional: dict[str, float] = {}
    for threshold in voc.THRESHOLDS if masked else ():
        by_class = voc.average_precision(instances, detections, iou["mask"], threshold, classes)
        regional[str(threshold)] = float(by_class[by_class >= 0].mean())
        for row, value in zip(rows, by_class, strict=True):
            row[f"voc_AP{threshold}"] = float(value)
    near = pairs(instances, detections, iou["mask" if masked else "box"], tide.BACKGROUND)
    errors = tide.analyse(instances, detections, near, classes)
    operating = operating_point(instances, detections, errors, near, classes)
    for row, (precision, recall) in zip(rows, operating.by_class, strict=True):
        row |= {"precision": float(precision), "recall": float(recall)}
    metrics = Metrics(
        **{kind: matched[kind].statistics if kind in matched else {} for kind in KINDS},
        voc=regional,
        per_class=rows,
        images=len(truth["images"]),
        speed=speed or {},
        message="" if masked and found else coco.NOTHING_FOUND if not found else BOXES_ONLY,
    )
    if progress:
        progress(len(kinds) + 1, len(kinds) + 1)
    return Evaluation(truth, labels, instances, detections, matched, errors, operating, metrics)
