"""Box-frame masks: an M x M grid that spans a box, cell (i, j) being 1/M of the box each way."""

import tensorflow as tf

from fcis_tf.structures import Tensor


def resample(
    masks: Tensor, source: Tensor, target: Tensor, size: Tensor, columns: Tensor | None = None
) -> Tensor:
    """Bilinear values of masks at the cell centres of other boxes.

    Inside its source box a mask is continued to the edge (clamped); outside it is 0. This is the
    released code's non-antialiased resize with half-pixel centres (spec section 5.3), for any pair
    of frames, with no canvas in between.

    Args:
        masks: (R, m, n) float, mask r in the frame of box ``source[r]``.
        source: (R, 4) boxes.
        target: (R, 4) boxes in the same coordinates.
        size: cells per side of the result.
        columns: cells per row, where it is not `size`.

    Returns:
        (R, size, columns) float32 in the frames of `target`.
    """
    masks = tf.cast(masks, tf.float32)
    columns = size if columns is None else columns
    down = _interpolation(source[:, 0::2], target[:, 0::2], tf.shape(masks)[1], size)
    across = _interpolation(source[:, 1::2], target[:, 1::2], tf.shape(masks)[2], columns)
    return tf.matmul(tf.matmul(down, masks, transpose_a=True), across)


def resample_mean(
    masks: Tensor, weights: Tensor, source: Tensor, target: Tensor, size: Tensor
) -> Tensor:
    """``tensordot(weights, resample(masks, source, target, size), 1)`` without the R results.

    One product over all masks and columns at once, which is several times faster.
    """
    masks = tf.cast(masks, tf.float32) * weights[:, None, None]
    down = _interpolation(source[:, 0::2], target[:, 0::2], tf.shape(masks)[1], size)
    across = _interpolation(source[:, 1::2], target[:, 1::2], tf.shape(masks)[2], size)
    rows = tf.reshape(tf.matmul(masks, across), [-1, size])  # of all masks, one below the other
    return tf.matmul(tf.reshape(down, [-1, size]), rows, transpose_a=True)


def resample_pixels(mask: Tensor, box: Tensor, roi: Tensor, size: int) -> Tensor:
    """A whole-image mask in a ROI, by way of a canvas of the ROI's pixels.

    The released code's mask target (spec section 5.3): mask pixels outside the instance's box are
    dropped, the canvas of the ROI's whole pixels is resized bilinearly, clamped at its edge.

    Args:
        mask: (H, W) float32.
        box: (4,) the instance's box in whole pixels.
        roi: (4,); its first and last pixel are rounded half to even.
        size: cells per side of the result.

    Returns:
        (size, size) float32 in the frame of `roi`.
    """
    first, last = tf.round(roi[:2]), tf.round(roi[2:] - 1.0)
    shape = tf.shape(mask)

    def taps(axis: int) -> Tensor:
        """(size, pixels of the axis)"""
        length = tf.maximum(last[axis] - first[axis] + 1.0, 1.0)
        place = (tf.range(size, dtype=tf.float32) + 0.5) * (length / size) - 0.5
        place = first[axis] + tf.clip_by_value(place, 0.0, length - 1.0)
        pixel = tf.range(tf.cast(shape[axis], tf.float32))
        inside = (pixel >= box[axis]) & (pixel < box[axis + 2])
        weights = tf.maximum(1.0 - tf.abs(place[:, None] - pixel), 0.0)
        return weights * tf.cast(inside, tf.float32)

    return tf.matmul(tf.matmul(taps(0), mask), taps(1), transpose_b=True)


def _interpolation(source: Tensor, target: Tensor, cells: Tensor, size: Tensor) -> Tensor:
    """Matrices (R, cells, size) along one axis; `source` and `target` are (R, 2) low and high."""
    cells_float = tf.cast(cells, tf.float32)
    size = tf.cast(size, tf.float32)
    steps = (tf.range(size) + 0.5) / size
    points = target[:, :1] + steps * (target[:, 1:] - target[:, :1])  # (R, size)
    low, high = source[:, :1], source[:, 1:]
    place = tf.math.divide_no_nan((points - low) * cells_float, high - low) - 0.5
    place = tf.clip_by_value(place, 0.0, cells_float - 1.0)
    weights = tf.maximum(1.0 - tf.abs(place[:, None] - tf.range(cells_float)[:, None]), 0.0)
    inside = (points >= low) & (points < high)
    return weights * tf.cast(inside, tf.float32)[:, None]
