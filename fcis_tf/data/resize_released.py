"""Resizing as the released code does it, for ``data.resize: released``.

Pixels are resized as OpenCV's ``resize`` does in ``lib/utils/image.py: resize``, in 8-bit fixed
point; masks on the whole image (``lib/mask/mask_transform.py: get_gt_masks``); and ground-truth
boxes are rounded to whole pixels. All of it is checked against OpenCV in tests/golden.
"""

import tensorflow as tf

from fcis_tf.data.augment import Example, resized_size
from fcis_tf.structures import Tensor

# OpenCV keeps 11 bits of each bilinear weight.
WEIGHT_BITS = 11


def resize(example: Example, factor: Tensor) -> Example:
    """Resize the image, its boxes and its whole-image masks; adds `scale`.

    Args:
        example: boxes in whole pixels; masks, if any, (G, H0, W0) uint8, 0 or 1.
        factor: () float64 network pixels per original pixel.

    Returns:
        The example with image (H, W, 3) uint8, boxes of whole pixels, and masks (G, H, W) float32
        between 0 and 1: they stay fractional.
    """
    size = resized_size(tf.shape(example["image"])[:2], factor)
    resized = example | {
        "image": resize_image(example["image"], factor, size),
        "boxes": round_boxes(example["boxes"], factor, size),
        "scale": tf.cast(factor, tf.float32),
    }
    if "masks" in example:
        masks = tf.cast(example["masks"], tf.float32)[..., None]
        resized["masks"] = tf.image.resize(masks, size, antialias=False)[..., 0]
    return resized


def resize_image(image: Tensor, factor: Tensor, size: Tensor) -> Tensor:
    """Bilinear resize of 8-bit pixels with 8-bit results, by exactly `factor`.

    Args:
        image: (H0, W0, 3) uint8.
        factor: () float64.
        size: (2,) int32 height and width of the result.

    Returns:
        (H, W, 3) uint8.
    """
    shape = tf.shape(image)
    top, bottom, upper, lower = _taps(shape[0], size[0], factor)
    left, right, before, after = _taps(shape[1], size[1], factor)
    pixels = tf.cast(image, tf.int32)
    # Columns first, as OpenCV: products of 8-bit pixels and 11-bit weights.
    rows = (
        tf.gather(pixels, left, axis=1) * before[:, None]
        + tf.gather(pixels, right, axis=1) * after[:, None]
    )  # (H0, W, 3), 19 bits
    # The second pass drops 4 bits before and 16 after the product, so as to fit into 32 bits. Of
    # the 22 fractional bits 2 are left, which the last line rounds.
    shift = tf.bitwise.right_shift
    first = shift(upper[:, None, None] * shift(tf.gather(rows, top), 4), 16)  # (H, W, 3)
    second = shift(lower[:, None, None] * shift(tf.gather(rows, bottom), 4), 16)
    return tf.saturate_cast(shift(first + second + 2, 2), tf.uint8)


def round_boxes(boxes: Tensor, factor: Tensor, size: Tensor) -> Tensor:
    """Boxes (G, 4) scaled; first and last pixel are rounded to whole pixels inside the image."""
    factor, limit = tf.cast(factor, tf.float64), tf.cast(size, tf.float64) - 1.0
    # Records hold fractions of the image, so whole pixels are a rounding error off.
    boxes = tf.cast(boxes, tf.float64) + 1e-3
    # Half-open ends become the last pixel, which the released code scales, and back.
    first = tf.round(tf.floor(boxes[:, :2]) * factor)
    last = tf.round(tf.floor(boxes[:, 2:] - 1.0) * factor)
    first, last = (tf.clip_by_value(corner, 0.0, limit) for corner in (first, last))
    return tf.cast(tf.concat([first, last + 1.0], 1), tf.float32)


def _taps(before: Tensor, after: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two source pixels of each output pixel along an axis, and their fixed-point weights.

    Args:
        before: () int32 source pixels of the axis.
        after: () int32 output pixels of the axis.
        factor: () float64.

    Returns:
        Four times (after,) int32: both pixels, clamped at the edge, and both weights, in units of
        ``1 / (1 << WEIGHT_BITS)``.
    """
    place = (tf.range(after, dtype=tf.float64) + 0.5) / tf.cast(factor, tf.float64) - 0.5
    place = tf.cast(place, tf.float32)
    low = tf.floor(place)
    weights = [1.0 - (place - low), place - low]
    fixed = [tf.cast(tf.round(w * float(1 << WEIGHT_BITS)), tf.int32) for w in weights]
    first = tf.cast(low, tf.int32)
    pixels = [tf.clip_by_value(first + step, 0, before - 1) for step in (0, 1)]
    return (*pixels, *fixed)
