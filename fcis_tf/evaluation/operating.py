"""At one threshold of the score: precision, recall, F1, and how good each image is."""

from typing import NamedTuple

import numpy as np

from fcis_tf.evaluation.overlaps import Columns, Pairs
from fcis_tf.evaluation.tide import IGNORED, RIGHT, Errors


class Operating(NamedTuple):
    """What a user gets who keeps the detections from a score on, at IoU 0.5."""

    threshold: float  # the score with the best F1 over all classes together
    precision: float
    recall: float
    f1: float
    curve: np.ndarray  # (101, 4) float64 threshold, precision, recall, F1 over the range of scores
    by_class: np.ndarray  # (C, 2) float64 precision and recall, -1 where nothing is counted
    quality: np.ndarray  # (I,) float64 in 0..1 of each image, -1 where there is nothing at all
    mistakes: np.ndarray  # (I,) int: false positives and false negatives of each image


def operating_point(
    instances: Columns, detections: Columns, errors: Errors, near: Pairs, classes: int
) -> Operating:
    """The score threshold with the best F1, and what it gives.

    The quality of an image is Kirillov et al.'s panoptic quality over its instances of all classes:
    the sum of the IoU of right detections / (right + false positives / 2 + false negatives / 2).

    Args:
        instances: of the whole data set.
        detections: of the whole data set.
        errors: `tide.analyse` of them.
        near: the pairs it was made from.
        classes: their number C.
    """
    right, counted = errors.kind == RIGHT, errors.kind != IGNORED
    wanted = ~instances.crowd
    order = np.flatnonzero(counted)
    order = order[np.argsort(-detections.score[order], kind="stable")]
    hits = np.cumsum(right[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + np.count_nonzero(wanted))
    # Equal scores cannot be parted: only the last of them is a threshold.
    scores = detections.score[order]
    f1[:-1][scores[:-1] == scores[1:]] = 0.0
    threshold = float(scores[f1.argmax()]) if len(f1) else 1.0

    kept = counted & (detections.score >= threshold)
    good = kept & right
    iou = np.zeros(len(right))
    own = errors.instance[near.detection] == near.instance
    iou[near.detection[own]] = near.iou[own]
    images, groups = len(instances.start) - 1, np.arange(1, classes + 1)

    def total(group: np.ndarray, size: int, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(group, weights=weights, minlength=size)

    tp = total(detections.image[good], images)
    fp = total(detections.image[kept & ~right], images)
    fn = total(instances.image[wanted], images) - tp
    overlap = total(detections.image[good], images, iou[good])
    by_class = [
        total(part.label[chosen], classes + 1)[groups]
        for part, chosen in ((detections, good), (detections, kept), (instances, wanted))
    ]
    precision, recall = _rates(*(np.array([n.sum()]) for n in (tp, tp + fp, tp + fn)))
    return Operating(
        threshold,
        float(precision[0]),
        float(recall[0]),
        float(f1.max(initial=0.0)),
        _curve(scores, hits, int(np.count_nonzero(wanted))),
        np.stack(_rates(*by_class), 1),
        np.where(tp + fp + fn > 0, overlap / np.maximum(tp + fp / 2 + fn / 2, 0.5), -1.0),
        fp + fn,
    )


def _curve(scores: np.ndarray, hits: np.ndarray, wanted: int) -> np.ndarray:
    """Precision, recall and F1 over thresholds; `scores` fall, `hits` counts the right ones."""
    thresholds = np.linspace(
        min(scores.min(initial=0.0), 0.0), max(scores.max(initial=1.0), 1.0), 101
    )
    kept = np.searchsorted(-scores, -thresholds, side="right")
    right = np.concatenate([[0], hits])[kept]
    precision, recall = _rates(right, kept, np.full(len(kept), wanted))
    f1 = 2 * right / np.maximum(kept + wanted, 1)
    return np.stack([thresholds, precision, recall, f1], 1)


def _rates(
    right: np.ndarray, kept: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall, -1 where nothing is kept or wanted."""
    precision = np.where(kept > 0, right / np.maximum(kept, 1), -1.0)
    recall = np.where(wanted > 0, right / np.maximum(wanted, 1), -1.0)
    return precision, recall
