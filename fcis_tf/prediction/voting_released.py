"""Suppression and mask voting as the released code does them (spec section 7).

For ``predict.voting: released``. The default, postprocess.py, is better in three ways: it does not
threshold masks before averaging them, has no round trip through p x p cells, and does not round
boxes to whole original pixels first. The released code scales and rounds the first and the last
pixel of a box; `corners` are these, all other boxes are half-open as everywhere.
"""

import numpy as np
import tensorflow as tf

from fcis_tf.geometry import boxes as box_ops
from fcis_tf.geometry.masks import resample
from fcis_tf.structures import Detections, Tensor

# What a half-open box has more than one that names its first and last pixel.
LAST_PIXEL = np.array([0.0, 0.0, 1.0, 1.0], np.float32)
FAR = 1e6  # beyond every image


def postprocess_released(
    rois: Tensor,
    valid: Tensor,
    class_logits: Tensor,
    mask_logits: Tensor,
    scale: Tensor,
    image_size: Tensor,
    *,
    min_size: float,
    nms_threshold: float,
    max_detections: int,
    score_threshold: float,
    vote_iou: float,
    mask_threshold: float,
    processor: str,
) -> Detections:
    """Detections whose masks (B, D, p, p) are votes in the frame of whole-pixel boxes.

    Args:
        rois: (B, N, 4) in network pixels; of both passes.
        valid: (B, N) bool.
        class_logits: (B, N, K).
        mask_logits: (B, N, p, p, 2) of each ROI's best foreground class.
        scale: (B,) network pixels per original pixel.
        image_size: (B, 2) height and width in network pixels.
        min_size: as in `postprocess`, as are all up to `mask_threshold`.
        nms_threshold: see above.
        max_detections: see above.
        score_threshold: see above.
        vote_iou: see above.
        mask_threshold: of each mask before the vote, and of the vote.
        processor: "gpu" or "cpu", of which the released code has one variant each. "gpu", the
            published one, looks beyond the border of small boxes when it cuts out the vote, and
            drops detections one pixel high or wide.
    """
    if processor == "cpu":  # suppresses at equality too
        nms_threshold = float(np.nextafter(np.float32(nms_threshold), np.float32(0.0)))
    usable = valid & tf.reduce_all(rois[..., 2:] - rois[..., :2] >= min_size, -1)
    scale = scale[:, None, None]
    limits = tf.round(image_size / scale[:, 0])  # (B, 2); can differ from the image file's size
    corners = (rois - LAST_PIXEL) / scale
    highest = tf.concat([limits, limits], 1)[:, None, :] - 1.0
    corners = tf.clip_by_value(corners, 0.0, highest)
    boxes, frames = corners + LAST_PIXEL, tf.round(corners) + LAST_PIXEL
    scores = tf.nn.softmax(class_logits)[..., 1:] * tf.cast(usable, tf.float32)[..., None]
    inside = tf.sigmoid(mask_logits[..., 1] - mask_logits[..., 0])
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        scores,
        max_output_size_per_class=max_detections,
        max_total_size=max_detections,
        iou_threshold=nms_threshold,
        score_threshold=score_threshold,
        clip_boxes=False,
    )
    classes = tf.cast(kept.nmsed_classes, tf.int32)
    present = tf.range(max_detections)[None, :] < kept.valid_detections[:, None]
    electors = box_ops.iou(kept.nmsed_boxes, boxes) >= vote_iou
    electors &= usable[:, None, :] & present[..., None]
    weights = tf.gather(tf.transpose(scores, [0, 2, 1]), classes, batch_dims=1)
    cells = inside.shape[-1]

    def ballot(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, detection = index // max_detections, index % max_detections
        voters = tf.where(electors[image, detection])[:, 0]
        shares = tf.gather(weights[image, detection], voters)
        window, votes = _vote(
            tf.gather(inside[image], voters),
            tf.gather(frames[image], voters),
            tf.math.divide_no_nan(shares, tf.reduce_sum(shares)),
            mask_threshold,
        )
        tight, seen = _tight_box(window, votes >= mask_threshold)
        border = tight
        if processor == "gpu":
            seen &= tf.reduce_all(tight[2:] - tight[:2] > 1.0)
            border = tf.concat([tf.zeros([2]), limits[image]], 0)
        return tight, _cut(window, votes, tight, border, cells), seen

    found, masks, seen = tf.map_fn(
        ballot,
        tf.range(tf.shape(rois)[0] * max_detections),
        fn_output_signature=(
            tf.TensorSpec([4]),
            tf.TensorSpec([cells, cells]),
            tf.TensorSpec([], tf.bool),
        ),
    )
    return Detections(
        boxes=tf.reshape(found, [-1, max_detections, 4]),
        scores=kept.nmsed_scores,
        labels=classes + 1,
        masks=tf.reshape(masks, [-1, max_detections, cells, cells]),
        valid=present & tf.reshape(seen, [-1, max_detections]),
    )


def _vote(masks: Tensor, frames: Tensor, shares: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Weighted sum of thresholded masks, pixel by pixel.

    Args:
        masks: (n, p, p) inside probabilities.
        frames: (n, 4) whole-pixel boxes that they span.
        shares: (n,) weights.
        threshold: from which a rendered mask counts.

    Returns:
        The window (4,) that encloses all frames, and votes (h, w), one for each of its pixels.
    """
    low = tf.reduce_min(tf.pad(frames[:, :2], [[0, 1], [0, 0]], constant_values=FAR), 0)
    high = tf.reduce_max(tf.pad(frames[:, 2:], [[0, 1], [0, 0]]), 0)
    window = tf.concat([tf.minimum(low, high), high], 0)
    height, width = tf.unstack(tf.cast(window[2:] - window[:2], tf.int32))
    target = tf.repeat(window[None], tf.shape(frames)[0], axis=0)
    rendered = resample(masks, frames, target, height, width) >= threshold
    return window, tf.tensordot(shares, tf.cast(rendered, tf.float32), 1)


def _tight_box(window: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """The box (4,) around the marked pixels (h, w) of a window, and () bool whether there are."""
    places = tf.cast(tf.where(inside), tf.float32)
    seen = tf.shape(places)[0] > 0
    places = tf.cond(seen, lambda: places, lambda: tf.zeros([1, 2]))
    low = window[:2] + tf.reduce_min(places, 0)
    return tf.concat([low, window[:2] + tf.reduce_max(places, 0) + 1.0], 0), seen


def _cut(window: Tensor, votes: Tensor, box: Tensor, border: Tensor, cells: int) -> Tensor:
    """Votes (cells, cells) in `box`, bilinear, continued to the edge of `border` (4,)."""

    def taps(axis: int) -> Tensor:
        length = box[axis + 2] - box[axis]
        place = box[axis] + (tf.range(cells, dtype=tf.float32) + 0.5) * (length / cells) - 0.5
        place = tf.clip_by_value(place, border[axis], border[axis + 2] - 1.0)
        pixel = window[axis] + tf.range(tf.cast(tf.shape(votes)[axis], tf.float32))
        return tf.maximum(1.0 - tf.abs(place[:, None] - pixel), 0.0)

    return tf.matmul(tf.matmul(taps(0), votes), taps(1), transpose_b=True)
