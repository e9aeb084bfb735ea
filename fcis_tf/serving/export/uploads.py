"""Untrusted image files, read inside the graph so that a corrupt one does not fail the batch.

A decoder that raises fails the whole batch, and a server batches requests of different clients.
Here a file gives pixels or an error text, and the size in its header is checked before decoding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from fcis_tf.config import DataConfig
from fcis_tf.data.decode import decode_image
from fcis_tf.data.pipeline import network_input
from fcis_tf.structures import Tensor

PNG = b"\x89PNG\r\n\x1a\n"
PADDING = b"\0" * 32  # appended to a file, so that a header can be read from any
EXIF_REACH = 1 << 17  # bytes that are searched for EXIF; the segment has at most 65,533
DAMAGED = "damaged or truncated; it cannot be decoded"


class Upload(NamedTuple):
    """One image file as input of the network. With an error, the other fields are zeros."""

    pixels: Tensor  # (H, W, 3) float32, as `network_input`
    scale: Tensor  # () float32, network pixels per original pixel
    original: Tensor  # (2,) int32 height and width of the upright image
    error: Tensor  # () string, empty if there is none


def read_upload(encoded: Tensor, data: DataConfig, *, max_pixels: int, upright: bool) -> Upload:
    """A JPEG or PNG file, decoded and resized, or an error text; nothing raises.

    Args:
        encoded: () string, the file.
        data: validation size, as for `network_input`.
        max_pixels: a larger image is refused before it is decoded.
        upright: rotate and mirror a JPEG according to its EXIF orientation.
    """

    def read(encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = decode_image(encoded)
        if upright:
            image = turned(image, exif_orientation(encoded))
        pixels, scale = network_input(image, data)
        return pixels, scale, tf.shape(image)[:2]

    nothing = (tf.zeros([0, 0, 3]), tf.zeros([]), tf.zeros([2], tf.int32))
    refusal = refused(encoded, max_pixels)
    pixels, scale, original = tf.cond(
        refusal == "", lambda: attempt(read, encoded, nothing), lambda: nothing
    )
    damaged = tf.equal(tf.size(pixels), 0)
    error = tf.where(tf.logical_and(refusal == "", damaged), DAMAGED, refusal)
    return Upload(tf.ensure_shape(pixels, [None, None, 3]), scale, original, error)


def attempt(function: Callable[[Tensor], Any], value: Tensor, fallback: Any) -> Any:
    """``function(value)``, or `fallback` of the same types if one of its operations fails.

    tf.data is the only way to catch an error inside a graph with stock TensorFlow.
    """
    tried = tf.data.Dataset.from_tensors(value).map(function).ignore_errors()
    otherwise = tf.data.Dataset.from_tensors(fallback)
    return tried.concatenate(otherwise).take(1).get_single_element()


def refused(encoded: Tensor, max_pixels: int) -> Tensor:
    """The error text () string of a file () string that must not be decoded, or an empty string."""
    head = tf.strings.substr(tf.strings.join([encoded, PADDING]), 0, len(PADDING))
    jpeg = tf.strings.substr(head, 0, 3) == b"\xff\xd8\xff"
    png = tf.logical_and(
        tf.strings.substr(head, 0, 8) == PNG, tf.strings.substr(head, 12, 4) == b"IHDR"
    )

    def of_png() -> Tensor:
        sides = tf.io.decode_raw(tf.strings.substr(head, 16, 8), tf.int32, little_endian=False)
        return tf.ensure_shape(sides, [2])[::-1]

    def of_jpeg() -> Tensor:
        return attempt(
            lambda file: tf.ensure_shape(tf.io.extract_jpeg_shape(file), [3])[:2],
            encoded,
            tf.zeros([2], tf.int32),
        )

    unknown = tf.zeros([2], tf.int32)
    size = tf.cond(png, of_png, lambda: tf.cond(jpeg, of_jpeg, lambda: unknown))
    area = tf.reduce_prod(tf.cast(size, tf.int64))
    stated = tf.strings.as_string(size)
    too_large = tf.strings.join(
        [stated[0], " x ", stated[1], f" pixels; expected at most {max_pixels} in all"]
    )
    size_fault = tf.where(
        tf.reduce_any(size <= 0), DAMAGED, tf.where(area > max_pixels, too_large, "")
    )
    kind_fault = tf.where(tf.strings.length(encoded) == 0, "an empty file", "neither JPEG nor PNG")
    return tf.where(tf.logical_or(jpeg, png), size_fault, kind_fault)


def exif_orientation(encoded: Tensor) -> Tensor:
    """EXIF orientation () int32 of a JPEG, 1 to 8; 1 if it has none."""
    start = tf.strings.substr(tf.strings.join([encoded, PADDING]), 0, EXIF_REACH)
    data = tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int32)
    last = tf.size(data) - 1

    def number(at: Tensor, width: int, big: Tensor) -> Tensor:
        """Unsigned integers of `width` bytes at positions (n,) or (); clipped to the data."""
        places = tf.clip_by_value(at[..., None] + tf.range(width), 0, last)
        digits = tf.gather(data, places)
        digits = tf.cond(big, lambda: digits, lambda: tf.reverse(digits, [-1]))
        return tf.reduce_sum(digits * tf.constant([256**n for n in reversed(range(width))]), -1)

    big_endian = tf.constant(True)

    def is_exif(at: Tensor) -> Tensor:
        name = tf.gather(data, tf.clip_by_value(at + 4 + tf.range(6), 0, last))
        marker = number(at, 2, big_endian) == 0xFFE1
        return tf.logical_and(marker, tf.reduce_all(name == list(b"Exif\0\0")))

    def goes_on(at: Tensor) -> Tensor:
        # Application segments and comments precede the image data.
        marker = number(at, 2, big_endian)
        skipped = tf.logical_or(
            tf.logical_and(marker >= 0xFFE0, marker <= 0xFFEF), marker == 0xFFFE
        )
        return tf.logical_and(tf.logical_and(at < last, skipped), tf.logical_not(is_exif(at)))

    def following(at: Tensor) -> tuple[Tensor]:
        return (at + 2 + tf.maximum(number(at + 2, 2, big_endian), 2),)

    (at,) = tf.while_loop(goes_on, following, (tf.constant(2),))
    tiff = at + 10
    big = tf.gather(data, tf.minimum(tiff, last)) == ord("M")
    directory = tiff + tf.clip_by_value(number(tiff + 4, 4, big), 0, EXIF_REACH)
    entries = directory + 2 + 12 * tf.range(number(directory, 2, big))
    stated = tf.where(number(entries, 2, big) == 0x0112, number(entries + 8, 2, big), 0)
    value = tf.reduce_max(tf.concat([stated, [1]], 0))
    usable = tf.logical_and(is_exif(at), value <= 8)
    return tf.where(usable, value, 1)


def turned(image: Tensor, orientation: Tensor) -> Tensor:
    """An image (H, W, 3) stored with EXIF `orientation` () int32, rotated for display."""

    def either(changed: Callable[[], Tensor], *which: int) -> Tensor:
        chosen = tf.reduce_any(orientation == tf.constant(which))
        return tf.ensure_shape(tf.cond(chosen, changed, lambda: image), [None, None, 3])

    image = either(lambda: tf.transpose(image, [1, 0, 2]), 5, 6, 7, 8)
    image = either(lambda: image[::-1], 3, 4, 7, 8)
    return either(lambda: image[:, ::-1], 2, 3, 6, 7)
