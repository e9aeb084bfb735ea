"""Anchors of the region proposal network (released code: ``lib/rpn/generate_anchor.py``)."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fcis_tf.structures import Tensor


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], stride: int) -> np.ndarray:
    """Anchors (ratios * sizes, 4) of cell (0, 0), ratio in the outer loop, as the released code.

    A ratio's 16-pixel window is rounded to whole pixels and then scaled to each size, so that
    ratio 0.5 at size 128 is 184 x 96 pixels and not 181.02 x 90.51.

    Args:
        sizes: side in network pixels of the square anchor; 16 times the released "scale".
        ratios: height / width.
        stride: network pixels per cell; anchors sit on the middle of their cell.
    """
    anchors = []
    for ratio in ratios:
        # About 256 pixels in area: width x height is 23 x 12, 16 x 16 or 11 x 22.
        width = np.rint(np.sqrt(256.0 / ratio))
        height = np.rint(width * ratio)
        for size in sizes:
            half = np.array([height, width]) * (size / 16.0) / 2.0
            anchors.append(np.concatenate([stride / 2.0 - half, stride / 2.0 + half]))
    return np.array(anchors, np.float32)


def grid_anchors(cell: np.ndarray, rows: Tensor, columns: Tensor, stride: int) -> Tensor:
    """Anchors (rows * columns * a, 4) of a feature grid in order (row, column, anchor of cell)."""
    y = tf.cast(tf.range(rows) * stride, tf.float32)
    x = tf.cast(tf.range(columns) * stride, tf.float32)
    corner = tf.stack(tf.meshgrid(y, x, indexing="ij"), -1)  # (rows, columns, 2)
    shifts = tf.concat([corner, corner], -1)[:, :, None, :]  # (rows, columns, 1, 4)
    # Broadcast over the (a, 4) anchors of a cell.
    return tf.reshape(shifts + tf.constant(cell), [-1, 4])
