"""Suppression and mask voting as the released code does them, for ``predict.voting: released``.

`gpu_mask_voting` and `cpu_mask_voting` in lib/mask/mask_transform.py of the released code. The
default, voting.py, improves on three points: it does not threshold masks before averaging them, has
no round trip through p x p cells, and does not round boxes to whole original pixels first. The
released code scales and rounds the first and the last pixel of a box; `corners` are these, all
other boxes are half-open as everywhere.
"""

import numpy as np
import tensorflow as tf

from fcis_tf.config import PredictConfig
from fcis_tf.geometry.masks import resample
from fcis_tf.prediction.suppression import class_scores, suppress
from fcis_tf.prediction.voting import Voters, inside_probabilities, voting_weights
from fcis_tf.structures import Candidates, Detections, ImageInfo, Tensor

# What a half-open box has more than one that names its first and last pixel.
LAST_PIXEL = np.array([0.0, 0.0, 1.0, 1.0], np.float32)
FAR = 1e6  # beyond every image


def vote_released(candidates: Candidates, info: ImageInfo, settings: PredictConfig) -> Detections:
    """Detections whose masks (B, D, p, p) are votes in the frame of whole-pixel boxes.

    Arguments as in `postprocess`. ``voting: released`` is the released code on a GPU, the published
    one: it reaches beyond the border of small boxes when it cuts out the vote, and drops detections
    one pixel high or wide. ``released_cpu`` is its code for processors.
    """
    on_cpu = settings.voting == "released_cpu"
    if on_cpu:  # suppresses at equality too
        threshold = np.nextafter(np.float32(settings.nms_threshold), np.float32(0.0))
        settings = settings.model_copy(update={"nms_threshold": float(threshold)})
    scale = info.scale[:, None, None]
    limits = tf.round(info.size / scale[:, 0])  # (B, 2); can differ from the image file's size
    highest = tf.concat([limits, limits], 1)[:, None, :] - 1.0
    corners = tf.clip_by_value((candidates.rois - LAST_PIXEL) / scale, 0.0, highest)  # (B, N, 4)
    voters = Voters(
        boxes=corners + LAST_PIXEL,
        frames=tf.round(corners) + LAST_PIXEL,
        scores=class_scores(candidates, settings.min_size),
        masks=inside_probabilities(candidates.heads.mask_logits),
    )
    kept = suppress(voters.boxes, voters.scores, settings)
    weights = voting_weights(voters, kept, settings)  # (B, D, N)
    most, cells = settings.max_detections, voters.masks.shape[-1]

    def vote_for(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tight box (4,), votes (p, p) in it and () bool whether there is any, of a detection."""
        image, detection = index // most, index % most
        chosen = tf.where(weights[image, detection] > 0.0)[:, 0]  # (v,) the voters
        shares = tf.gather(weights[image, detection], chosen)
        window, votes = _vote(
            tf.gather(voters.masks[image], chosen),
            tf.gather(voters.frames[image], chosen),
            tf.math.divide_no_nan(shares, tf.reduce_sum(shares)),
            settings.mask_threshold,
        )
        tight, seen = _tight_box(window, votes >= settings.mask_threshold)
        border = tight
        if not on_cpu:
            seen &= tf.reduce_all(tight[2:] - tight[:2] > 1.0)
            border = tf.concat([tf.zeros([2]), limits[image]], 0)
        return tight, _cut(window, votes, tight, border, cells), seen

    boxes, votes, seen = tf.map_fn(
        vote_for,
        tf.range(tf.shape(candidates.rois)[0] * most),
        fn_output_signature=(
            tf.TensorSpec([4]),
            tf.TensorSpec([cells, cells]),
            tf.TensorSpec([], tf.bool),
        ),
    )
    return Detections(
        boxes=tf.reshape(boxes, [-1, most, 4]),
        scores=kept.scores,
        labels=kept.classes + 1,
        masks=tf.reshape(votes, [-1, most, cells, cells]),
        valid=kept.valid & tf.reshape(seen, [-1, most]),
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
