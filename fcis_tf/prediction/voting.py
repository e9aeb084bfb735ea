"""Mask voting: ROIs around a detection average their masks (paper section 2.3).

The mask of a detection is the average of the masks of all ROIs that overlap it by 0.5 or more,
weighted by their class scores. The released code's form is in voting_released.py.
"""

from typing import NamedTuple

import tensorflow as tf

from fcis_tf.config import PredictConfig
from fcis_tf.geometry import boxes as box_ops
from fcis_tf.geometry.masks import resample, resample_mean
from fcis_tf.prediction.suppression import Kept
from fcis_tf.structures import Detections, Tensor


class Voters(NamedTuple):
    """The ROIs of all passes, in original pixels."""

    boxes: Tensor  # (B, N, 4)
    frames: Tensor  # (B, N, 4) boxes that `masks` span
    scores: Tensor  # (B, N, C), 0 for ROIs that do not count
    masks: Tensor  # (B, N, p, p) inside probabilities of each ROI's best class


def inside_probabilities(mask_logits: Tensor) -> Tensor:
    """Of mask logits (..., 2), outside and inside, the probabilities (...) of inside."""
    return tf.sigmoid(mask_logits[..., 1] - mask_logits[..., 0])


def voting_weights(voters: Voters, kept: Kept, settings: PredictConfig) -> Tensor:
    """Weights (B, D, N) with which the ROIs vote for the detections: their scores for its class.

    A ROI votes where its IoU with the detection is at least ``vote_iou``; with ``voting: none``
    only the ROI that the detection came from does. All other weights are 0.
    """
    overlaps = box_ops.iou(kept.boxes, voters.boxes)  # (B, D, N)
    scores = tf.transpose(voters.scores, [0, 2, 1])  # (B, C, N)
    weights = tf.gather(scores, kept.classes, batch_dims=1)  # (B, D, N)
    usable = (weights > 0.0) & kept.valid[..., None]
    if settings.voting == "none":
        own = tf.argmax(tf.where(usable, overlaps, -1.0), -1)  # (B, D)
        usable &= tf.cast(tf.one_hot(own, tf.shape(overlaps)[2]), tf.bool)
    else:
        usable &= overlaps >= settings.vote_iou
    return tf.where(usable, weights, 0.0)


def vote(voters: Voters, kept: Kept, limits: Tensor, settings: PredictConfig) -> Detections:
    """Average the masks of the ROIs around each detection, weighted by their score for its class.

    The votes are rendered on an M x M grid over the box that encloses all voters, one detection at
    a time, so that memory does not grow with the image or with the number of detections.

    Args:
        voters: all ROIs, in original pixels.
        kept: D boxes of each image that survived the suppression.
        limits: (B, 2) float32 height and width of the image.
        settings: `voting` ("soft" averages probabilities, as the paper says; "binary" thresholds
            each mask before; "none" keeps each ROI's own mask), `vote_iou`, `mask_threshold` and
            `mask_size` (M) are read.

    Returns:
        Detections with boxes tight around ``masks >= mask_threshold``; one whose votes all stay
        below the threshold is not valid.
    """
    weights = voting_weights(voters, kept, settings)
    count, most, size = tf.shape(kept.boxes)[1], tf.shape(voters.boxes)[1], settings.mask_size
    bins = tf.shape(voters.masks)[2:]
    flat_masks = tf.reshape(voters.masks, tf.concat([[-1], bins], 0))  # (B * N, p, p)

    def vote_for(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tight box (4,), votes (M, M) in it and () bool whether there is any, of a detection."""
        image, detection = index // count, index % count
        chosen = tf.where(weights[image, detection] > 0.0)[:, 0]  # (v,) the voters
        shares = tf.gather(weights[image, detection], chosen)
        shares = tf.math.divide_no_nan(shares, tf.reduce_sum(shares))
        frames = tf.gather(voters.frames[image], chosen)  # (v, 4)
        # The smallest box around all voters; without any, an empty one.
        around = tf.concat([tf.reduce_min(frames[:, :2], 0), tf.reduce_max(frames[:, 2:], 0)], 0)
        frame = tf.where(tf.size(chosen) > 0, around, tf.zeros([4]))
        frame = box_ops.clip(frame, limits[image])
        target = tf.repeat(frame[None], tf.size(chosen), axis=0)  # (v, 4)
        masks = tf.gather(flat_masks, image * most + tf.cast(chosen, tf.int32))  # (v, p, p)
        if settings.voting == "binary":
            rendered = resample(masks, frames, target, size) >= settings.mask_threshold
            votes = tf.tensordot(shares, tf.cast(rendered, tf.float32), 1)  # (M, M)
        else:
            votes = resample_mean(masks, shares, frames, target, size)
        return tighten(votes, frame, settings.mask_threshold)

    boxes, votes, seen = tf.map_fn(
        vote_for,
        tf.range(tf.shape(kept.boxes)[0] * count),
        fn_output_signature=(
            tf.TensorSpec([4]),
            tf.TensorSpec([size, size]),
            tf.TensorSpec([], tf.bool),
        ),
    )
    shape = [-1, kept.boxes.shape[1] or count]  # B, D
    return Detections(
        boxes=tf.reshape(boxes, [*shape, 4]),
        scores=kept.scores,
        labels=kept.classes + 1,
        masks=tf.reshape(votes, [*shape, size, size]),
        valid=kept.valid & tf.reshape(seen, shape),
    )


def tighten(votes: Tensor, frame: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cut votes (M, M) in `frame` (4,) to the box around ``votes >= threshold``.

    Returns:
        The tight box (4,), the votes (M, M) in its frame, and () bool whether anything reached the
        threshold; if not, the box has no area.
    """
    size = votes.shape[0]
    inside = votes >= threshold

    def extent(axis: int) -> tuple[Tensor, Tensor]:
        """First and last marked row (axis 1) or column (axis 0), as fractions of the frame."""
        line = tf.reduce_any(inside, axis)  # (M,)
        first = tf.argmax(line, output_type=tf.int32)
        last = size - tf.argmax(line[::-1], output_type=tf.int32)
        return tf.cast(first, tf.float32) / size, tf.cast(last, tf.float32) / size

    (top, bottom), (left, right) = extent(1), extent(0)
    height, width = frame[2] - frame[0], frame[3] - frame[1]
    seen = tf.reduce_any(inside) & (height > 0.0) & (width > 0.0)
    tight = tf.stack(
        [
            frame[0] + top * height,
            frame[1] + left * width,
            frame[0] + bottom * height,
            frame[1] + right * width,
        ]
    )
    tight = tf.where(seen, tight, tf.zeros([4]))
    return tight, resample(votes[None], frame[None], tight[None], size)[0], seen


def weigh_by_masks(detections: Detections, threshold: float) -> Detections:
    """Scores times the mean vote of the pixels ``masks >= threshold``, and best first again.

    A class score says what a ROI shows, not how well its mask fits; votes near the threshold belong
    to an outline that the voters do not agree on (the "maskness" of SOLOv2).
    """
    inside = tf.cast(detections.masks >= threshold, tf.float32)  # (B, D, M, M)
    total = tf.reduce_sum(detections.masks * inside, [2, 3])  # (B, D)
    scores = detections.scores * tf.math.divide_no_nan(total, tf.reduce_sum(inside, [2, 3]))
    rank = tf.where(detections.valid, scores, -1.0)
    order = tf.argsort(rank, direction="DESCENDING", stable=True)
    weighed = detections._replace(scores=scores)
    return Detections(*(tf.gather(part, order, batch_dims=1) for part in weighed))
