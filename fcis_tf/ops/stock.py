"""Position-sensitive pooling and assembly in stock TensorFlow operations (paper section 3.2).

A ROI is cut into p x p bins; bin (q, c) averages the whole feature cells it touches, in the map of
its position group (q * k // p, c * k // p). The bin edges are computed in integers (spec section
4.2 in exact arithmetic): float edges differ by whole cells between compilers.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from fcis_tf.structures import Tensor

# ROI corners are cut to this many pixels so that edge arithmetic fits into int32.
FAR = 1_000_000.0


class Bins(NamedTuple):
    """Feature cells covered by the bins of one axis: ``low <= cell < high``, both (R, p) int32."""

    low: Tensor
    high: Tensor


def ps_roi_pool(
    maps: Tensor,
    rois: Tensor,
    image_index: Tensor,
    *,
    group_size: int,
    pooled_size: int,
    stride: int,
) -> Tensor:
    """Average position-sensitive maps inside the bins of each ROI (spec section 4.2).

    Args:
        maps: (B, Hf, Wf, k * k * D) float32 or bfloat16, channels (gy, gx, d).
        rois: (R, 4) in network pixels; corners are rounded to whole pixels, half away from zero.
        image_index: (R,) int32, the image of each ROI, in 0..B-1.
        group_size: k.
        pooled_size: p, at least k.
        stride: network pixels per feature cell, even.

    Returns:
        (R, p, p, D) float32; 0 in bins outside the map. Differentiable in `maps` only.

    """
    k, p = group_size, pooled_size
    depth = maps.shape[-1] // (k * k)
    shape = tf.shape(maps)
    images, rows, columns = shape[0], shape[1], shape[2]
    rois = tf.cast(tf.stop_gradient(rois), tf.float32)
    y_bins = bin_edges(rois[:, 0], rois[:, 2], rows, pooled_size=p, stride=stride)
    x_bins = bin_edges(rois[:, 1], rois[:, 3], columns, pooled_size=p, stride=stride)
    groups = tf.constant([b * k // p for b in range(p)], tf.int32)
    cell_group = groups[:, None] * k + groups[None, :]  # (p, p)
    heights = y_bins.high - y_bins.low
    widths = x_bins.high - x_bins.low
    y_steps, x_steps = largest(heights), largest(widths)
    share = tf.math.divide_no_nan(
        1.0, tf.cast(heights[:, :, None] * widths[:, None, :], tf.float32)
    )  # (R, p, p): what one cell adds to its bin
    first_row = image_index * rows

    def cells(step: Tensor) -> tuple[Tensor, Tensor]:
        """Row numbers (R, p, p) in `flat` of the step-th cell of each bin, and its weight."""
        y, x = y_bins.low + step // x_steps, x_bins.low + step % x_steps
        inside = (y < y_bins.high)[:, :, None] & (x < x_bins.high)[:, None, :]
        row = (first_row[:, None] + tf.minimum(y, rows - 1))[:, :, None] * columns
        place = (row + tf.minimum(x, columns - 1)[:, None, :]) * (k * k) + cell_group
        return place, tf.where(inside, share, 0.0)

    def sum_over_cells(start: Tensor, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """`start` plus ``term(place, weight)`` for every cell that any bin may touch."""
        return tf.while_loop(
            lambda step, total: step < y_steps * x_steps,
            lambda step, total: (step + 1, total + term(*cells(step))),
            (0, start),
            parallel_iterations=1,
        )[1]

    @tf.custom_gradient
    def pool(maps: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        flat = tf.reshape(maps, [-1, depth])
        pooled = sum_over_cells(
            tf.zeros([tf.shape(rois)[0], p, p, depth]),
            lambda place, weight: tf.cast(tf.gather(flat, place), tf.float32) * weight[..., None],
        )

        def gradient(upstream: Tensor) -> Tensor:
            count = images * rows * columns * k * k
            total = sum_over_cells(
                tf.zeros([count, depth]),
                lambda place, weight: tf.math.unsorted_segment_sum(
                    upstream * weight[..., None], place, count
                ),
            )
            return tf.cast(tf.reshape(total, shape), maps.dtype)

        return pooled, gradient

    return pool(maps)


def ps_assemble(
    maps: Tensor,
    rois: Tensor,
    image_index: Tensor,
    labels: Tensor,
    *,
    group_size: int,
    pooled_size: int,
    stride: int,
) -> tuple[Tensor, Tensor]:
    """Class logits (R, K) and mask logits (R, p, p, 2); a label of -1 is the best foreground class.

    Arguments as in `ps_roi_pool`, the channels (gy, gx, side, class), and labels (R,) int32.
    """
    geometry = {"group_size": group_size, "pooled_size": pooled_size, "stride": stride}
    pooled = ps_roi_pool(maps, rois, image_index, **geometry)
    classes = pooled.shape[-1] // 2
    outside, inside = pooled[..., :classes], pooled[..., classes:]  # (R, p, p, K)
    # On a tie the outside map takes the gradient, as in the released code.
    evidence = tf.where(inside > outside, inside, outside)
    class_logits = tf.reduce_mean(evidence, [1, 2])
    best = tf.argmax(class_logits[:, 1:], -1, output_type=tf.int32) + 1 if classes > 1 else 0
    chosen = tf.where(labels < 0, best, labels)
    sides = tf.reshape(pooled, [-1, pooled_size, pooled_size, 2, classes])
    return class_logits, tf.einsum("rpqsc,rc->rpqs", sides, tf.one_hot(chosen, classes))


def ps_average(
    maps: Tensor,
    rois: Tensor,
    image_index: Tensor,
    *,
    group_size: int,
    pooled_size: int,
    stride: int,
) -> Tensor:
    """Mean (R, D) over all bins; arguments as in `ps_roi_pool`."""
    geometry = {"group_size": group_size, "pooled_size": pooled_size, "stride": stride}
    return tf.reduce_mean(ps_roi_pool(maps, rois, image_index, **geometry), [1, 2])


def bin_edges(low: Tensor, high: Tensor, cells: Tensor, *, pooled_size: int, stride: int) -> Bins:
    """The feature cells that each bin of an axis touches.

    In units of 1 / (5 * p * stride) of a cell all quantities are integers; the factor 5 is there
    for the least extent of a ROI, one tenth of a cell.

    Args:
        low: (R,) lower ROI edge in network pixels.
        high: (R,) upper edge.
        cells: number of cells along the axis.
        pooled_size: p.
        stride: network pixels per cell, even.
    """
    p = pooled_size
    start, end = _round_half_away(low), _round_half_away(high)
    extent = tf.maximum(5 * (end - start), stride // 2)
    index = tf.range(p)[None, :]
    origin = 5 * p * start[:, None]
    unit = 5 * p * stride
    first = (origin + index * extent[:, None]) // unit
    last = -(-(origin + (index + 1) * extent[:, None]) // unit)
    return Bins(tf.clip_by_value(first, 0, cells), tf.clip_by_value(last, 0, cells))


def largest(values: Tensor) -> Tensor:
    """Maximum of an int32 tensor, 0 when it is empty."""
    return tf.reduce_max(tf.pad(tf.reshape(values, [-1]), [[0, 1]]))


def _round_half_away(values: Tensor) -> Tensor:
    finite = tf.where(tf.math.is_nan(values), 0.0, tf.clip_by_value(values, -FAR, FAR))
    whole = tf.floor(tf.abs(finite))
    # Adding 0.5 first would itself round up just below a half.
    whole += tf.cast(tf.abs(finite) - whole >= 0.5, tf.float32)
    return tf.cast(tf.sign(finite) * whole, tf.int32)
