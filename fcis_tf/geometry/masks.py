"""Box-frame masks: an M x M grid that spans a box, cell (i, j) being 1/M of the box each way."""

import tensorflow as tf

from fcis_tf.structures import Tensor


def resample(masks: Tensor, source: Tensor, target: Tensor, size: int) -> Tensor:
    """Bilinear values of masks at the cell centres of other boxes.

    Inside its source box a mask is continued to the edge (clamped); outside it is 0. This is the
    released code's non-antialiased resize with half-pixel centres (spec section 5.3), for any pair
    of frames, with no canvas in between.

    Args:
        masks: (R, m, n) float, mask r in the frame of box ``source[r]``.
        source: (R, 4) boxes.
        target: (R, 4) boxes in the same coordinates.
        size: cells per side of the result.

    Returns:
        (R, size, size) float32 in the frames of `target`.
    """
    masks = tf.cast(masks, tf.float32)
    rows = _interpolation(source[:, 0::2], target[:, 0::2], tf.shape(masks)[1], size)
    columns = _interpolation(source[:, 1::2], target[:, 1::2], tf.shape(masks)[2], size)
    return tf.matmul(tf.matmul(rows, masks), columns, transpose_b=True)


def _interpolation(source: Tensor, target: Tensor, cells: Tensor, size: int) -> Tensor:
    """Matrices (R, size, cells) along one axis; `source` and `target` are (R, 2) low and high."""
    cells_float = tf.cast(cells, tf.float32)
    steps = (tf.range(size, dtype=tf.float32) + 0.5) / float(size)
    points = target[:, :1] + steps * (target[:, 1:] - target[:, :1])  # (R, size)
    low, high = source[:, :1], source[:, 1:]
    place = tf.math.divide_no_nan((points - low) * cells_float, high - low) - 0.5
    place = tf.clip_by_value(place, 0.0, cells_float - 1.0)
    weights = tf.maximum(1.0 - tf.abs(place[..., None] - tf.range(cells_float)), 0.0)
    inside = (points >= low) & (points < high)
    return weights * tf.cast(inside, tf.float32)[..., None]
