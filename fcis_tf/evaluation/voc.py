"""The paper's mAP^r: Pascal VOC's average precision with the IoU of masks.

Every detection of the data set, best first, goes to the instance of its class that it overlaps
most. The first to come with enough overlap is right, any other is wrong. Precision is averaged over
the eleven recalls 0, 0.1, ... 1, as VOC did until 2009.
"""

import numpy as np

from fcis_tf.evaluation.overlaps import Columns

THRESHOLDS = (0.5, 0.7)


def average_precision(
    instances: Columns, detections: Columns, iou: list[np.ndarray], threshold: float, classes: int
) -> np.ndarray:
    """AP of each class.

    Crowds are not looked for, and what overlaps one most is not counted, as VOC treats difficult
    objects.

    Args:
        instances: of the whole data set.
        detections: of the whole data set, any number of an image.
        iou: for each image (D_i, G_i), see `overlaps`.
        threshold: the least IoU of a match.
        classes: their number C.

    Returns:
        (C,) float64, -1 for a class without instances.
    """
    best = np.full(len(detections.rows), -1)
    overlap = np.zeros(len(best))
    for i, matrix in enumerate(iou):
        if matrix.size:
            d, g = detections.of(i), instances.of(i)
            same = detections.label[d][:, None] == instances.label[g]
            masked = np.where(same, matrix, -1.0)
            choice = masked.argmax(1)
            overlap[d] = masked[np.arange(len(choice)), choice]
            best[d] = np.where(overlap[d] >= 0, choice + g.start, -1)
    close = overlap >= threshold
    counted = ~(close & instances.crowd[best]) if len(instances.rows) else np.ones(len(best), bool)
    precision = np.full(classes, -1.0)
    for number in range(1, classes + 1):
        total = int(np.count_nonzero((instances.label == number) & ~instances.crowd))
        if total:
            ours = np.flatnonzero((detections.label == number) & counted)
            ours = ours[np.argsort(-detections.score[ours], kind="stable")]
            right = np.zeros(len(ours), bool)
            candidates = np.flatnonzero(close[ours])
            _, firsts = np.unique(best[ours[candidates]], return_index=True)
            right[candidates[firsts]] = True
            precision[number - 1] = eleven_points(right, total)
    return precision


def eleven_points(right: np.ndarray, total: int) -> float:
    """Mean over the recalls 0, 0.1, ... 1 of the best precision from there on.

    Args:
        right: (n,) bool, detections from the best score to the least.
        total: number of instances.
    """
    hits = np.cumsum(right)
    recall = hits / total
    precision = hits / np.arange(1, len(right) + 1)
    return float(
        np.mean([precision[recall >= at].max(initial=0.0) for at in np.arange(0.0, 1.1, 0.1)])
    )
