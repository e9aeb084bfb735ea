"""Masks at image resolution in the graph: a PNG of each instance's window of the image."""

import tensorflow as tf

from fcis_tf.structures import Tensor


def windows(boxes: Tensor, size: Tensor) -> Tensor:
    """The pixels whose centres lie in boxes (B, D, 4), as (B, D, 4) int32 (y0, x0, y1, x1).

    `size` (B, 2) int32 is the height and width of each image; an empty box gives an empty window.
    """
    limits = tf.concat([size, size], -1)[:, None, :]
    corners = tf.clip_by_value(tf.cast(tf.math.ceil(boxes - 0.5), tf.int32), 0, limits)
    first, last = tf.split(corners, 2, -1)
    return tf.concat([first, tf.maximum(first, last)], -1)


def paste(votes: Tensor, box: Tensor, window: Tensor, threshold: float) -> Tensor:
    """`geometry.paste.paste_masks` of one instance in its window, as a graph.

    Args:
        votes: (M, M) float32 in the frame of the box.
        box: (4,) float32 in pixels.
        window: (4,) int32 as `windows` gives it.
        threshold: a pixel belongs to the mask from this value on.

    Returns:
        (h, w) bool.
    """
    columns = _interpolate(votes, box[1], box[3], window[1], window[3], axis=1)
    return _interpolate(columns, box[0], box[2], window[0], window[2], axis=0) >= threshold


def png_crops(
    votes: Tensor, boxes: Tensor, windows: Tensor, valid: Tensor, threshold: float
) -> Tensor:
    """Each mask as a PNG, white on black, the size of its window; an empty string in empty slots.

    Args:
        votes: (B, D, M, M) float32.
        boxes: (B, D, 4) float32 in pixels.
        windows: (B, D, 4) int32.
        valid: (B, D) bool.
        threshold: as in `paste`.

    Returns:
        (B, D) string.
    """

    def png(args: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        mask, box, window, wanted = args

        def encoded() -> Tensor:
            pixels = tf.cast(paste(mask, box, window, threshold), tf.uint8) * 255
            return tf.io.encode_png(pixels[..., None])

        visible = tf.reduce_all(window[2:] > window[:2])
        return tf.cond(tf.logical_and(wanted, visible), encoded, lambda: tf.constant(b""))

    flat = [tf.reshape(part, [-1, *part.shape[2:]]) for part in (votes, boxes, windows, valid)]
    crops = tf.map_fn(png, tuple(flat), fn_output_signature=tf.string)
    return tf.reshape(crops, tf.shape(valid))


def _interpolate(
    values: Tensor, low: Tensor, high: Tensor, first: Tensor, last: Tensor, *, axis: int
) -> Tensor:
    """Values along `axis` at the centres of pixels first..last - 1 of the span low..high.

    Positions are computed in float64, as in NumPy, so that both give the same pixels.
    """
    cells = values.shape[axis]
    low, high = tf.cast(low, tf.float64), tf.cast(high, tf.float64)
    scale = cells / (high - low)
    place = (tf.cast(tf.range(first, last), tf.float64) + (0.5 - low)) * scale - 0.5
    place = tf.clip_by_value(place, 0.0, cells - 1.0)
    below = tf.cast(place, tf.int32)
    fraction = tf.cast(place - tf.cast(below, tf.float64), tf.float32)
    lower = tf.gather(values, below, axis=axis)
    upper = tf.gather(values, tf.minimum(below + 1, cells - 1), axis=axis)
    return lower + (upper - lower) * (fraction if axis else fraction[:, None])
