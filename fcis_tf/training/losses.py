"""The five losses and the choice of hard examples (paper section 2.3, "Training").

Every loss is a sum over the images of a batch, each image normalised by itself; the released code
sums over devices of one image each, and so a learning rate is one per image.
"""

import tensorflow as tf

from fcis_tf.structures import AnchorTargets, Heads, RoiTargets, Rpn, Tensor


def smooth_l1(difference: Tensor, sigma: float) -> Tensor:
    """0.5 (sigma x)^2 up to |x| = 1 / sigma^2, then |x| - 0.5 / sigma^2; element by element."""
    size = tf.abs(difference)
    knee = 1.0 / sigma**2
    return tf.where(size <= knee, 0.5 * sigma**2 * tf.square(difference), size - 0.5 * knee)


def rpn_losses(rpn: Rpn, targets: AnchorTargets, *, batch_size: int) -> dict[str, Tensor]:
    """Scalars rpn_class and rpn_box.

    Args:
        rpn: outputs for every anchor.
        targets: labels and deltas; label -1 means no loss.
        batch_size: constant normaliser of the box loss, whatever the number of sampled anchors.
    """
    # Anchors without a loss take label 0 here and are left out of the mean.
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.maximum(targets.labels, 0), rpn.logits
    )  # (B, A)
    box = tf.reduce_sum(smooth_l1(rpn.deltas - targets.deltas, 3.0), -1)  # (B, A)
    return {
        "rpn_class": tf.reduce_sum(_mean_where(cross_entropy, targets.labels >= 0)),
        "rpn_box": _sum_where(box, targets.labels == 1) / batch_size,
    }


def roi_losses(
    heads: Heads, targets: RoiTargets, *, batch_size: int, mask_weight: float
) -> dict[str, Tensor]:
    """Scalars roi_class, roi_box and roi_mask.

    Args:
        heads: answers for the ROIs of `targets`, masks of their labels' classes.
        targets: label -1 means no loss; only labels above 0 have a box and a mask loss.
        batch_size: constant normaliser of the box and mask losses (128).
        mask_weight: 10 in the released code.
    """
    each = _each_roi(heads, targets)
    foreground = targets.labels > 0
    return {
        "roi_class": tf.reduce_sum(_mean_where(each["class"], targets.labels >= 0)),
        "roi_box": _sum_where(each["box"], foreground) / batch_size,
        "roi_mask": mask_weight * _sum_where(each["mask"], foreground) / batch_size,
    }


def keep_hardest(
    heads: Heads, targets: RoiTargets, *, count: int, mask_weight: float
) -> RoiTargets:
    """Online hard example mining: label -1 on all but the `count` ROIs of largest loss."""
    each = {name: tf.stop_gradient(value) for name, value in _each_roi(heads, targets).items()}
    foreground = tf.cast(targets.labels > 0, tf.float32)
    total = each["class"] + foreground * (each["box"] + mask_weight * each["mask"])
    total = tf.where(targets.labels >= 0, total, -1.0)  # (B, S); ROIs without a label come last
    hardest = tf.math.top_k(total, tf.minimum(count, tf.shape(total)[1])).indices
    keep = tf.reduce_max(tf.one_hot(hardest, tf.shape(total)[1]), 1) > 0.0  # (B, S)
    return targets._replace(labels=tf.where(keep, targets.labels, -1))


def _each_roi(heads: Heads, targets: RoiTargets) -> dict[str, Tensor]:
    """Unweighted losses (B, S) of every ROI as if it carried all three."""
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
    pixel = cross_entropy(targets.masks, heads.mask_logits)  # (B, S, p, p)
    return {
        "class": cross_entropy(tf.maximum(targets.labels, 0), heads.class_logits),
        "box": tf.reduce_sum(smooth_l1(heads.box_deltas - targets.deltas, 1.0), -1),
        "mask": tf.reduce_mean(pixel, [2, 3]),
    }


def _sum_where(values: Tensor, mask: Tensor) -> Tensor:
    return tf.reduce_sum(tf.where(mask, values, 0.0))


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean (B,) of the marked values of each image; 0 if none is marked."""
    total = tf.reduce_sum(tf.where(mask, values, 0.0), 1)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(mask, tf.float32), 1))
