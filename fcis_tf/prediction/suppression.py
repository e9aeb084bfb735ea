"""Class scores of the ROIs, and per-class suppression of duplicates (paper section 2.3)."""

from typing import NamedTuple

import tensorflow as tf

from fcis_tf.config import PredictConfig
from fcis_tf.structures import Candidates, Tensor


class Kept(NamedTuple):
    """The scored boxes that no better one of their class suppressed, best first."""

    boxes: Tensor  # (B, D, 4)
    scores: Tensor  # (B, D)
    classes: Tensor  # (B, D) int32 in 0..C-1
    valid: Tensor  # (B, D) bool, False in empty slots


def class_scores(candidates: Candidates, min_size: float) -> Tensor:
    """Probabilities (B, N, C) of the foreground classes, 0 for ROIs that are not to be used.

    Args:
        candidates: ROIs and their logits.
        min_size: least height and width of a ROI in network pixels.
    """
    sides = candidates.rois[..., 2:] - candidates.rois[..., :2]  # (B, N, 2)
    usable = candidates.valid & tf.reduce_all(sides >= min_size, -1)  # (B, N)
    probabilities = tf.nn.softmax(candidates.heads.class_logits)[..., 1:]  # (B, N, C)
    return probabilities * tf.cast(usable, tf.float32)[..., None]


def suppress(boxes: Tensor, scores: Tensor, settings: PredictConfig) -> Kept:
    """Non-maximum suppression class by class; the best ``max_detections`` of an image remain.

    Every class runs over every box, so one box can be kept for several classes.

    Args:
        boxes: (B, N, 4) float32.
        scores: (B, N, C), 0 for boxes that do not count.
        settings: `nms_threshold`, `max_detections` (D) and `score_threshold` are read.
    """
    most = settings.max_detections
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        scores,
        max_output_size_per_class=most,
        max_total_size=most,
        iou_threshold=settings.nms_threshold,
        score_threshold=settings.score_threshold,
        clip_boxes=False,
    )
    return Kept(
        kept.nmsed_boxes,
        kept.nmsed_scores,
        tf.cast(kept.nmsed_classes, tf.int32),
        tf.range(most)[None, :] < kept.valid_detections[:, None],
    )
