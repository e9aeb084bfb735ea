"""Training targets of the RPN and the heads: labels, deltas and masks (paper section 2.3).

The released code: lib/rpn/rpn.py `assign_anchor`, lib/mask/mask_transform.py `intersect_box_mask`
and fcis/operator_py/proposal_annotator.py `sample_rois`.
"""

import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.geometry import boxes as box_ops
from fcis_tf.geometry.masks import resample, resample_pixels
from fcis_tf.geometry.matching import match, random_keys, subsample
from fcis_tf.structures import AnchorTargets, Proposals, RoiTargets, Tensor

# Values from which a resampled mask counts as inside (`BINARY_THRESH` of the released code).
MASK_TARGET_THRESHOLD = 0.4


def anchor_targets(anchors: Tensor, batch: dict[str, Tensor], train: TrainConfig) -> AnchorTargets:
    """Label the anchors of each image and keep a random few.

    Anchors that leave the image have no loss. An anchor is an object if it overlaps an instance by
    ``rpn_positive_iou`` or is the best (or ties for it) of some instance; background if its best
    overlap is below ``rpn_negative_iou``. Of these ``rpn_batch`` remain, at most the fraction
    ``rpn_foreground`` of them objects.

    Args:
        anchors: (A, 4) in network pixels.
        batch: image_size, boxes, labels and seed of the batch; see structures.py.
        train: the four settings above are read.
    """
    boxes, present, size = batch["boxes"], batch["labels"] > 0, batch["image_size"]
    within = tf.reduce_all(anchors[None, :, :2] >= 0.0, -1) & tf.reduce_all(
        anchors[None, :, 2:] <= size[:, None, :], -1
    )  # (B, A)
    everywhere = tf.repeat(anchors[None], tf.shape(boxes)[0], axis=0)  # (B, A, 4)
    # For every anchor its best instance and their IoU, both (B, A), and all IoUs (B, A, G).
    best, overlap, overlaps = match(everywhere, boxes, present)
    overlaps = tf.where(within[..., None], overlaps, 0.0)
    best_of_instance = tf.reduce_max(overlaps, 1, keepdims=True)  # (B, 1, G)
    # The released code lacks the second condition: an instance that no anchor overlaps made every
    # anchor a positive.
    best_anchor = tf.reduce_any((overlaps == best_of_instance) & (overlaps > 0.0), -1)  # (B, A)
    positive = within & (best_anchor | (overlap >= train.rpn_positive_iou))
    negative = within & (overlap < train.rpn_negative_iou) & ~positive
    count = tf.shape(anchors)[0]
    # Objects first; background fills what they leave of the sample.
    most = round(train.rpn_batch * train.rpn_foreground)
    quota = tf.fill([tf.shape(boxes)[0]], most)  # (B,)
    positive = subsample(positive, quota, most, random_keys(batch["seed"], count, 1))
    rest = train.rpn_batch - tf.reduce_sum(tf.cast(positive, tf.int32), 1)
    negative = subsample(negative, rest, train.rpn_batch, random_keys(batch["seed"], count, 2))
    labels = tf.where(positive, 1, tf.where(negative, 0, -1))
    return AnchorTargets(labels, _deltas(boxes, best, everywhere, positive))


def roi_targets(
    proposals: Proposals,
    batch: dict[str, Tensor],
    box_std: Tensor,
    train: TrainConfig,
    *,
    pooled_size: int,
) -> RoiTargets:
    """Label the proposals and the ground-truth boxes, which join them as further ROIs.

    ``sampling: ohem`` labels all N + G candidates and leaves the choice to the losses, which keep
    the hardest; ``random`` draws ``roi_batch`` of them (S), at most the fraction ``roi_foreground``
    of them positive. A positive overlaps an instance by ``roi_positive_iou``, a background ROI by
    less, but by ``roi_background_iou`` at least. ``roi_top_up`` fills a random sample that is too
    small with any candidates, labelled background.

    Args:
        proposals: N boxes of each image.
        batch: boxes, labels, masks and seed of the batch; see structures.py.
        box_std: (4,) divisors of the deltas.
        train: the settings above are read.
        pooled_size: p.
    """
    boxes, present = batch["boxes"], batch["labels"] > 0
    rois = tf.stop_gradient(tf.concat([proposals.boxes, boxes], 1))  # (B, N + G, 4)
    valid = tf.concat([proposals.valid, present], 1)  # (B, N + G)
    best, overlap, _ = match(rois, boxes, present)
    positive = valid & (overlap >= train.roi_positive_iou)
    background = valid & (overlap < train.roi_positive_iou) & (overlap >= train.roi_background_iou)
    if train.sampling == "random":
        spare = valid & train.roi_top_up
        rois, best, positive, background = _draw(
            rois, best, positive, background, spare, batch["seed"], train
        )
    classes = tf.gather(_one_slot(batch["labels"]), best, batch_dims=1)  # (B, S)
    labels = tf.where(positive, classes, tf.where(background, 0, -1))
    deltas = _deltas(boxes, best, rois, positive) / box_std
    return RoiTargets(rois, labels, deltas, _mask_targets(batch, rois, best, positive, pooled_size))


def _draw(
    rois: Tensor,
    best: Tensor,
    positive: Tensor,
    background: Tensor,
    spare: Tensor,
    seed: Tensor,
    train: TrainConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Choose ``roi_batch`` (S) of the R candidates of each image, positives first.

    Where they are too few, candidates marked `spare` (B, R) that were not drawn as positives become
    background, several times over if need be, as in the released `sample_rois`; without any, labels
    are -1.

    Returns:
        ROIs (B, S, 4), their best instances (B, S), and whether they are positive and background.
    """
    count, batch_size = tf.shape(rois)[1], train.roi_batch
    most = round(batch_size * train.roi_foreground)
    quota = tf.fill([tf.shape(rois)[0]], most)
    positive = subsample(positive, quota, most, random_keys(seed, count, 3))
    rest = batch_size - tf.reduce_sum(tf.cast(positive, tf.int32), 1)
    background = subsample(background, rest, batch_size, random_keys(seed, count, 4))
    # Positives have rank 2, background 1, all others 0; padding keeps top_k within its input.
    rank = 2 * tf.cast(positive, tf.int32) + tf.cast(background, tf.int32)  # (B, R)
    missing = tf.maximum(batch_size - count, 0)
    chosen = tf.math.top_k(tf.pad(rank, [[0, 0], [0, missing]]), batch_size)
    index, rank = tf.minimum(chosen.indices, count - 1), chosen.values  # (B, S)
    # Empty places take the spare candidates in a random order, and start over when all are used.
    spare &= ~positive
    spares = tf.reduce_sum(tf.cast(spare, tf.int32), 1, keepdims=True)  # (B, 1)
    order = tf.argsort(
        tf.where(spare, random_keys(seed, count, 5), -1.0), direction="DESCENDING", stable=True
    )
    drawn = tf.reduce_sum(tf.cast(rank > 0, tf.int32), 1, keepdims=True)  # (B, 1)
    turn = (tf.range(batch_size)[None] - drawn) % tf.maximum(spares, 1)  # (B, S)
    fill = (rank == 0) & (spares > 0)
    index = tf.where(fill, tf.gather(order, turn, batch_dims=1), index)
    rois, best = tf.gather(rois, index, batch_dims=1), tf.gather(best, index, batch_dims=1)
    return rois, best, rank == 2, (rank == 1) | fill


def _one_slot(values: Tensor) -> Tensor:
    """Add a zero slot along axis 1, so that index 0 exists in a batch without any instance."""
    return tf.pad(values, [[0, 0], [0, 1]] + [[0, 0]] * (values.shape.rank - 2))


def _deltas(boxes: Tensor, best: Tensor, references: Tensor, positive: Tensor) -> Tensor:
    """Deltas from `references` to their instances; 0 where there is none."""
    targets = tf.gather(_one_slot(boxes), best, batch_dims=1)
    unit = tf.constant([0.0, 0.0, 1.0, 1.0])  # stands in where a side may be empty
    positive = positive[..., None]
    return box_ops.encode(tf.where(positive, targets, unit), tf.where(positive, references, unit))


def _mask_targets(
    batch: dict[str, Tensor], rois: Tensor, best: Tensor, positive: Tensor, pooled_size: int
) -> Tensor:
    """The instance's mask in each positive ROI (B, S, p, p) int32; zero elsewhere.

    ROIs are rounded as the pooling rounds them, so that target and score of a bin cover the same
    pixels.
    """
    where = tf.where(positive)  # (n, 2) image and ROI
    # (n, 2) image and instance
    instance = tf.stack([where[:, 0], tf.cast(tf.gather_nd(best, where), tf.int64)], -1)
    boxes = tf.gather_nd(_one_slot(batch["boxes"]), instance)  # (n, 4)
    chosen, masks = tf.gather_nd(rois, where), _one_slot(batch["masks"])
    if masks.dtype == tf.uint8:  # box-frame masks
        masks = tf.cast(tf.gather_nd(masks, instance), tf.float32) / 255.0
        inside = resample(masks, boxes, tf.round(chosen), pooled_size)
    else:  # whole images, one at a time: a copy for every ROI would not fit into memory
        inside = tf.map_fn(
            lambda one: resample_pixels(tf.gather_nd(masks, one[0]), one[1], one[2], pooled_size),
            (instance, boxes, chosen),
            fn_output_signature=tf.TensorSpec([pooled_size, pooled_size]),
        )
    shape = tf.concat([tf.shape(positive), [pooled_size, pooled_size]], 0)
    bins = tf.cast(inside >= MASK_TARGET_THRESHOLD, tf.int32)
    return tf.scatter_nd(where, bins, tf.cast(shape, tf.int64))
