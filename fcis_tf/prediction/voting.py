"""From scored ROIs to instances: per-class suppression and mask voting (spec section 7)."""

from typing import NamedTuple

import tensorflow as tf

from fcis_tf.geometry import boxes as box_ops
from fcis_tf.geometry.masks import resample, resample_mean
from fcis_tf.structures import Detections, Tensor


def postprocess(
    rois: Tensor,
    valid: Tensor,
    class_logits: Tensor,
    mask_logits: Tensor,
    scale: Tensor,
    original_size: Tensor,
    frames: Tensor | None = None,
    *,
    min_size: float,
    nms_threshold: float,
    max_detections: int,
    score_threshold: float,
    vote_iou: float,
    mask_threshold: float,
    mask_size: int,
    voting: str,
    maskness: bool = False,
) -> Detections:
    """Suppress duplicates class by class, then let overlapping ROIs vote for each mask.

    Every class runs over every ROI, so one ROI can give several detections; the best
    `max_detections` of an image remain.

    Args:
        rois: (B, N, 4) in network pixels; of both passes.
        valid: (B, N) bool.
        class_logits: (B, N, K).
        mask_logits: (B, N, p, p, 2) of each ROI's best foreground class.
        scale: (B,) network pixels per original pixel.
        original_size: (B, 2) height and width of the original image.
        frames: (B, N, 4) boxes that the masks span, in network pixels; by default whole pixels.
        min_size: ROIs with a smaller side in network pixels are dropped.
        nms_threshold: IoU above which the lower-scored of two boxes of a class goes.
        max_detections: D.
        score_threshold: least score.
        vote_iou: least IoU of a ROI with a detection whose mask it votes for.
        mask_threshold: probability from which a bin counts as inside, and vote from which a pixel
            does.
        mask_size: M.
        voting: "soft" averages probabilities, as the paper says; "binary" thresholds each mask
            before averaging, as the released code; "none" keeps each ROI's own mask.
        maskness: multiply scores by how sure the masks are; see `weigh_by_masks`.

    Returns:
        Detections in original pixels, their boxes tight around ``masks >= mask_threshold``.
    """
    if frames is None:
        frames = tf.round(rois)  # where the bins of a ROI were pooled
    boxes, scores, kept = suppress(
        rois,
        valid,
        class_logits,
        scale,
        original_size,
        min_size=min_size,
        nms_threshold=nms_threshold,
        max_detections=max_detections,
        score_threshold=score_threshold,
    )
    found, masks, seen = vote(
        kept.boxes,
        kept.classes,
        kept.valid,
        boxes,
        frames / scale[:, None, None],
        scores,
        tf.sigmoid(mask_logits[..., 1] - mask_logits[..., 0]),
        tf.cast(original_size, tf.float32),
        vote_iou=vote_iou,
        mask_threshold=mask_threshold,
        mask_size=mask_size,
        voting=voting,
    )
    detections = Detections(
        boxes=found,
        scores=kept.scores,
        labels=kept.classes + 1,
        masks=masks,
        valid=kept.valid & seen,
    )
    return weigh_by_masks(detections, mask_threshold) if maskness else detections


def weigh_by_masks(detections: Detections, threshold: float) -> Detections:
    """Scores times the mean vote of the pixels ``masks >= threshold``, and best first again.

    A class score says what a ROI shows, not how well its mask fits; votes near the threshold tell
    of an outline that the voters do not agree on (the "maskness" of SOLOv2).
    """
    inside = tf.cast(detections.masks >= threshold, tf.float32)
    total = tf.reduce_sum(detections.masks * inside, [2, 3])
    scores = detections.scores * tf.math.divide_no_nan(total, tf.reduce_sum(inside, [2, 3]))
    rank = tf.where(detections.valid, scores, -1.0)
    order = tf.argsort(rank, direction="DESCENDING", stable=True)
    weighed = detections._replace(scores=scores)
    return Detections(*(tf.gather(part, order, batch_dims=1) for part in weighed))


class Kept(NamedTuple):
    """The scored boxes that no better one of their class suppressed, best first."""

    boxes: Tensor  # (B, D, 4)
    scores: Tensor  # (B, D)
    classes: Tensor  # (B, D) int32 in 0..C-1
    valid: Tensor  # (B, D) bool, False in empty slots


def suppress(
    rois: Tensor,
    valid: Tensor,
    class_logits: Tensor,
    scale: Tensor,
    original_size: Tensor,
    *,
    min_size: float,
    nms_threshold: float,
    max_detections: int,
    score_threshold: float,
) -> tuple[Tensor, Tensor, Kept]:
    """Non-maximum suppression class by class; arguments as in `postprocess`.

    Returns:
        Boxes (B, N, 4) of all ROIs in original pixels, their scores (B, N, C), and what is left.
    """
    limits = tf.cast(original_size, tf.float32)
    boxes = box_ops.clip(rois / scale[:, None, None], limits[:, None, :])
    scores = class_scores(rois, valid, class_logits, min_size)
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        scores,
        max_output_size_per_class=max_detections,
        max_total_size=max_detections,
        iou_threshold=nms_threshold,
        score_threshold=score_threshold,
        clip_boxes=False,
    )
    present = tf.range(max_detections)[None, :] < kept.valid_detections[:, None]
    classes = tf.cast(kept.nmsed_classes, tf.int32)
    return boxes, scores, Kept(kept.nmsed_boxes, kept.nmsed_scores, classes, present)


def class_scores(rois: Tensor, valid: Tensor, class_logits: Tensor, min_size: float) -> Tensor:
    """Probabilities (B, N, C) of the foreground classes, 0 for ROIs that are not to be used."""
    sides = rois[..., 2:] - rois[..., :2]
    usable = valid & tf.reduce_all(sides >= min_size, -1)
    return tf.nn.softmax(class_logits)[..., 1:] * tf.cast(usable, tf.float32)[..., None]


def vote(
    detections: Tensor,
    classes: Tensor,
    present: Tensor,
    boxes: Tensor,
    frames: Tensor,
    scores: Tensor,
    masks: Tensor,
    limits: Tensor,
    *,
    vote_iou: float,
    mask_threshold: float,
    mask_size: int,
    voting: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Average the masks of the boxes around each detection, weighted by their score for its class.

    The votes are rendered on an M x M grid over the box that encloses all voters, one detection at
    a time, so that memory does not grow with the image or with the number of detections.

    Args:
        detections: (B, D, 4) boxes that survived the suppression.
        classes: (B, D) int32 in 0..C-1.
        present: (B, D) bool, False in empty slots.
        boxes: (B, N, 4) of all voters, in the coordinates of `detections`.
        frames: (B, N, 4) boxes that `masks` span.
        scores: (B, N, C), 0 for voters that do not count.
        masks: (B, N, p, p) inside probabilities.
        limits: (B, 2) height and width of the image.
        vote_iou: as in `postprocess`, like all that follow.
        mask_threshold: of a vote, and with "binary" of a mask.
        mask_size: M.
        voting: "soft", "binary" or "none".

    Returns:
        Tight boxes (B, D, 4), votes (B, D, M, M) in their frames, and (B, D) bool whether any vote
        reaches `mask_threshold`.
    """
    overlaps = box_ops.iou(detections, boxes)  # (B, D, N)
    weights = tf.gather(tf.transpose(scores, [0, 2, 1]), classes, batch_dims=1)  # (B, D, N)
    usable = (weights > 0.0) & present[..., None]
    if voting == "none":
        own = tf.argmax(tf.where(usable, overlaps, -1.0), -1)
        electors = usable & tf.cast(tf.one_hot(own, tf.shape(boxes)[1]), tf.bool)
    else:
        electors = usable & (overlaps >= vote_iou)
    count, most = tf.shape(detections)[1], tf.shape(boxes)[1]
    flat = tf.reshape(masks, tf.concat([[-1], tf.shape(masks)[2:]], 0))

    def ballot(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, detection = index // count, index % count
        voters = tf.where(electors[image, detection])[:, 0]
        frame_of = tf.gather(frames[image], voters)
        share = tf.gather(weights[image, detection], voters)
        low = tf.reduce_min(frame_of[:, :2], 0)
        high = tf.reduce_max(frame_of[:, 2:], 0)
        any_voter = tf.size(voters) > 0
        frame = tf.where(any_voter, tf.concat([low, high], 0), tf.zeros([4]))
        frame = box_ops.clip(frame, limits[image])
        target = tf.repeat(frame[None], tf.size(voters), axis=0)
        share = tf.math.divide_no_nan(share, tf.reduce_sum(share))
        chosen = tf.gather(flat, image * most + tf.cast(voters, tf.int32))
        if voting == "binary":
            rendered = resample(chosen, frame_of, target, mask_size)
            votes = tf.tensordot(share, tf.cast(rendered >= mask_threshold, tf.float32), 1)
        else:
            votes = resample_mean(chosen, share, frame_of, target, mask_size)
        return tighten(votes, frame, mask_threshold)

    shapes = (
        tf.TensorSpec([4]),
        tf.TensorSpec([mask_size, mask_size]),
        tf.TensorSpec([], tf.bool),
    )
    everything = tf.range(tf.shape(detections)[0] * count)
    found, votes, seen = tf.map_fn(ballot, everything, fn_output_signature=shapes)
    shape = [-1, detections.shape[1] or count]
    return (
        tf.reshape(found, [*shape, 4]),
        tf.reshape(votes, [*shape, mask_size, mask_size]),
        tf.reshape(seen, shape),
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
        line = tf.reduce_any(inside, axis)
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
