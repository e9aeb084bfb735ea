"""Box-frame masks: an M x M grid that spans a box, cell (i, j) being 1/M of the box each way."""

import tensorflow as tf

from fcis_tf.structures import Tensor


def resample(
    masks: Tensor, source: Tensor, target: Tensor, size: Tensor, columns: Tensor | None = None
) -> Tensor:
    """Bilinear values of masks at the cell centres of other boxes.

    Inside its source box a mask is continued to the edge (clamped); outside it is 0. This is the
    resize of the released mask targets, not antialiased and with half-pixel centres
    (``fcis/operator_py/proposal_annotator.py: sample_rois``), for any pair of frames, with no
    canvas in between.

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
    # Bilinear interpolation is separable: a matrix for the rows and one for the columns.
    down = _interpolation(source[:, 0::2], target[:, 0::2], tf.shape(masks)[1], size)
    across = _interpolation(source[:, 1::2], target[:, 1::2], tf.shape(masks)[2], columns)
    # (R, m, size)^T (R, m, n) (R, n, columns) -> (R, size, columns)
    return tf.matmul(tf.matmul(down, masks, transpose_a=True), across)


def resample_mean(
    masks: Tensor, weights: Tensor, source: Tensor, target: Tensor, size: Tensor
) -> Tensor:
    """``tensordot(weights, resample(masks, source, target, size), 1)`` without the R results.

    One product over all masks and columns at once, which is several times faster.
    """
    masks = tf.cast(masks, tf.float32) * weights[:, None, None]  # (R, m, n)
    down = _interpolation(source[:, 0::2], target[:, 0::2], tf.shape(masks)[1], size)
    across = _interpolation(source[:, 1::2], target[:, 1::2], tf.shape(masks)[2], size)
    rows = tf.reshape(tf.matmul(masks, across), [-1, size])  # (R * m, size)
    # With the masks one below the other, the sum over masks is part of the product's own.
    return tf.matmul(tf.reshape(down, [-1, size]), rows, transpose_a=True)


def resample_pixels(mask: Tensor, box: Tensor, roi: Tensor, size: int) -> Tensor:
    """A whole-image mask in a ROI, by way of a canvas of the ROI's pixels.

    The released mask target (``lib/mask/mask_transform.py: intersect_box_mask`` and
    ``fcis/operator_py/proposal_annotator.py: sample_rois``): mask pixels outside the instance's box
    are dropped, the canvas of the ROI's whole pixels is resized bilinearly, clamped at its edge.

    Args:
        mask: (H, W) float32.
        box: (4,) the instance's box in whole pixels.
        roi: (4,); its first and last pixel are rounded half to even.
        size: cells per side of the result.

    Returns:
        (size, size) float32 in the frame of `roi`.
    """
    first, last = tf.round(roi[:2]), tf.round(roi[2:] - 1.0)  # (2,) pixels, both inclusive
    shape = tf.shape(mask)

    def taps(axis: int) -> Tensor:
        """Weights (size, pixels of the axis) of every pixel of the image in each cell."""
        # Cell centres on the canvas, clamped there, then as coordinates of the image.
        length = tf.maximum(last[axis] - first[axis] + 1.0, 1.0)
        place = (tf.range(size, dtype=tf.float32) + 0.5) * (length / size) - 0.5
        place = first[axis] + tf.clip_by_value(place, 0.0, length - 1.0)
        pixel = tf.range(tf.cast(shape[axis], tf.float32))
        # A pixel's weight falls to 0 at the distance of one pixel; outside the box it has none.
        inside = (pixel >= box[axis]) & (pixel < box[axis + 2])
        weights = tf.maximum(1.0 - tf.abs(place[:, None] - pixel), 0.0)
        return weights * tf.cast(inside, tf.float32)

    return tf.matmul(tf.matmul(taps(0), mask), taps(1), transpose_b=True)


def _interpolation(source: Tensor, target: Tensor, cells: Tensor, size: Tensor) -> Tensor:
    """Weights along one axis: of each source cell in each target cell.

    Args:
        source: (R, 2) low and high ends of the source boxes.
        target: (R, 2) ends of the target boxes.
        cells: of a source mask.
        size: cells of the result.

    Returns:
        (R, cells, size) float32.
    """
    cells_float = tf.cast(cells, tf.float32)
    size = tf.cast(size, tf.float32)
    steps = (tf.range(size) + 0.5) / size  # (size,) cell centres as fractions of the box
    points = target[:, :1] + steps * (target[:, 1:] - target[:, :1])  # (R, size)
    low, high = source[:, :1], source[:, 1:]  # (R, 1) each
    # In source cells, where 0 is the centre of the first one; clamped to the outer centres.
    place = tf.math.divide_no_nan((points - low) * cells_float, high - low) - 0.5
    place = tf.clip_by_value(place, 0.0, cells_float - 1.0)
    # (R, 1, size) - (cells, 1) -> (R, cells, size); two cells of each column have weights.
    weights = tf.maximum(1.0 - tf.abs(place[:, None] - tf.range(cells_float)[:, None]), 0.0)
    inside = (points >= low) & (points < high)
    return weights * tf.cast(inside, tf.float32)[:, None]
