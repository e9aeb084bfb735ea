"""Box arithmetic. Boxes are ``(y0, x0, y1, x1)``, float32, half-open; see structures.py.

The released code has inclusive pixels and widths ``x2 - x1 + 1`` (``lib/bbox/bbox_transform.py``).
As half-open boxes these are plain differences, so that nothing here adds one anywhere.
"""

import tensorflow as tf

from fcis_tf.structures import Tensor

# Largest log-ratio decoded. The released code has no bound; e**10 is far beyond any image and only
# keeps an untrained network from producing infinities.
MAX_LOG_RATIO = 10.0


def area(boxes: Tensor) -> Tensor:
    """Areas (...,) of boxes (..., 4); 0 for inverted ones."""
    sides = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (..., N, M) of boxes (..., N, 4) and (..., M, 4); 0 if both empty."""
    a, b = first[..., :, None, :], second[..., None, :, :]  # (..., N, 1, 4), (..., 1, M, 4)
    overlap = tf.maximum(
        tf.minimum(a[..., 2:], b[..., 2:]) - tf.maximum(a[..., :2], b[..., :2]), 0.0
    )  # (..., N, M, 2) height and width
    intersection = overlap[..., 0] * overlap[..., 1]
    union = area(first)[..., :, None] + area(second)[..., None, :] - intersection
    return tf.math.divide_no_nan(intersection, union)


def encode(boxes: Tensor, references: Tensor) -> Tensor:
    """Deltas (..., 4) as (dy, dx, dh, dw) that take `references` to `boxes`.

    As ``lib/bbox/bbox_transform.py: nonlinear_transform``. Both must have positive sides.
    """
    center, size = _center_size(boxes)
    reference_center, reference_size = _center_size(references)
    # The shift in sides of the reference, and the logarithm of the ratio of sides.
    shift = (center - reference_center) / reference_size
    return tf.concat([shift, tf.math.log(size / reference_size)], -1)


def decode(deltas: Tensor, references: Tensor) -> Tensor:
    """Boxes (..., 4): the inverse of `encode`, ``decode(encode(b, r), r) == b``."""
    center, size = _center_size(references)
    center = deltas[..., :2] * size + center
    # Clamped, so that no delta gives an infinite side.
    half = 0.5 * tf.exp(tf.minimum(deltas[..., 2:], MAX_LOG_RATIO)) * size
    return tf.concat([center - half, center + half], -1)


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes (..., 4) cut to images of height and width `size` (..., 2), broadcast over boxes."""
    limits = tf.concat([size, size], -1)  # (..., 4), for (y0, x0, y1, x1)
    return tf.clip_by_value(boxes, 0.0, limits)


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return 0.5 * (low + high), high - low
