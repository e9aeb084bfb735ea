"""What the RPN and the heads should say: labels, deltas and masks (spec sections 2, 3.3, 5.3)."""

import tensorflow as tf

from fcis_tf.geometry import boxes as box_ops
from fcis_tf.geometry.masks import resample, resample_pixels
from fcis_tf.geometry.matching import match, random_keys, subsample
from fcis_tf.structures import AnchorTargets, Proposals, RoiTargets, Tensor

# Values from which a resampled mask counts as inside (spec section 5.3).
MASK_TARGET_THRESHOLD = 0.4


def anchor_targets(
    anchors: Tensor,
    batch: dict[str, Tensor],
    *,
    positive_iou: float,
    negative_iou: float,
    batch_size: int,
    foreground: float,
) -> AnchorTargets:
    """Label the anchors of each image and keep a random few.

    Anchors that leave the image have no loss. An anchor is an object if it overlaps an instance by
    `positive_iou` or is the best (or ties for it) of some instance; background if its best overlap
    is below `negative_iou`. Of these `batch_size` remain, at most the fraction `foreground` of
    them objects.

    Args:
        anchors: (A, 4).
        batch: image_size, boxes, labels and seed of the batch; see structures.py.
        positive_iou: see above, as for all that follow.
        negative_iou: see above.
        batch_size: anchors with a loss per image.
        foreground: largest fraction of objects among them.
    """
    boxes, present, size = batch["boxes"], batch["labels"] > 0, batch["image_size"]
    within = tf.reduce_all(anchors[None, :, :2] >= 0.0, -1) & tf.reduce_all(
        anchors[None, :, 2:] <= size[:, None, :], -1
    )  # (B, A)
    everywhere = tf.repeat(anchors[None], tf.shape(boxes)[0], axis=0)
    best, overlap, overlaps = match(everywhere, boxes, present)
    overlaps = tf.where(within[..., None], overlaps, 0.0)
    best_of_instance = tf.reduce_max(overlaps, 1, keepdims=True)  # (B, 1, G)
    # The released code lacks the second condition: an instance that no anchor overlaps made every
    # anchor a positive (spec section 2, step 3).
    best_anchor = tf.reduce_any((overlaps == best_of_instance) & (overlaps > 0.0), -1)
    positive = within & (best_anchor | (overlap >= positive_iou))
    negative = within & (overlap < negative_iou) & ~positive
    count = tf.shape(anchors)[0]
    most = round(batch_size * foreground)
    quota = tf.fill([tf.shape(boxes)[0]], most)
    positive = subsample(positive, quota, most, random_keys(batch["seed"], count, 1))
    rest = batch_size - tf.reduce_sum(tf.cast(positive, tf.int32), 1)
    negative = subsample(negative, rest, batch_size, random_keys(batch["seed"], count, 2))
    labels = tf.where(positive, 1, tf.where(negative, 0, -1))
    return AnchorTargets(labels, _deltas(boxes, best, everywhere, positive))


def roi_targets(
    proposals: Proposals,
    batch: dict[str, Tensor],
    box_std: Tensor,
    *,
    sampling: str,
    batch_size: int,
    foreground: float,
    positive_iou: float,
    background_iou: float,
    top_up: bool,
    pooled_size: int,
) -> RoiTargets:
    """Label the proposals and the ground-truth boxes, which join them as further ROIs.

    Args:
        proposals: N boxes of each image.
        batch: boxes, labels, masks and seed of the batch; see structures.py.
        box_std: (4,) divisors of the deltas.
        sampling: "ohem" labels all N + G candidates and leaves the choice to the losses; "random"
            draws `batch_size` of them, at most the fraction `foreground` of them positive.
        batch_size: S, with random sampling.
        foreground: see `sampling`.
        positive_iou: least overlap of a positive.
        background_iou: least overlap of a background ROI.
        top_up: fill a random sample that is too small with any candidates, labelled background.
        pooled_size: p.
    """
    boxes, present = batch["boxes"], batch["labels"] > 0
    rois = tf.stop_gradient(tf.concat([proposals.boxes, boxes], 1))
    valid = tf.concat([proposals.valid, present], 1)
    best, overlap, _ = match(rois, boxes, present)
    positive = valid & (overlap >= positive_iou)
    background = valid & (overlap < positive_iou) & (overlap >= background_iou)
    if sampling == "random":
        rois, best, positive, background = _draw(
            rois, best, positive, background, valid & top_up, batch["seed"], batch_size, foreground
        )
    classes = tf.gather(_one_slot(batch["labels"]), best, batch_dims=1)
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
    batch_size: int,
    foreground: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Choose `batch_size` candidates of each image, positives first.

    Where they are too few, candidates marked `spare` (B, R) that were not drawn as positives
    become background, over and over if need be (spec section 3.3); without any, labels are -1.
    """
    count = tf.shape(rois)[1]
    most = round(batch_size * foreground)
    quota = tf.fill([tf.shape(rois)[0]], most)
    positive = subsample(positive, quota, most, random_keys(seed, count, 3))
    rest = batch_size - tf.reduce_sum(tf.cast(positive, tf.int32), 1)
    background = subsample(background, rest, batch_size, random_keys(seed, count, 4))
    rank = 2 * tf.cast(positive, tf.int32) + tf.cast(background, tf.int32)
    missing = tf.maximum(batch_size - count, 0)
    chosen = tf.math.top_k(tf.pad(rank, [[0, 0], [0, missing]]), batch_size)
    index, rank = tf.minimum(chosen.indices, count - 1), chosen.values
    spare &= ~positive
    spares = tf.reduce_sum(tf.cast(spare, tf.int32), 1, keepdims=True)  # (B, 1)
    order = tf.argsort(
        tf.where(spare, random_keys(seed, count, 5), -1.0), direction="DESCENDING", stable=True
    )
    drawn = tf.reduce_sum(tf.cast(rank > 0, tf.int32), 1, keepdims=True)
    turn = (tf.range(batch_size)[None] - drawn) % tf.maximum(spares, 1)
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

    ROIs are rounded as the pooling rounds them, so that target and score of a bin speak of the same
    pixels.
    """
    where = tf.where(positive)  # (n, 2)
    instance = tf.stack([where[:, 0], tf.cast(tf.gather_nd(best, where), tf.int64)], -1)
    boxes = tf.gather_nd(_one_slot(batch["boxes"]), instance)
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
