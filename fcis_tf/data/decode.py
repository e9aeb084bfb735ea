"""Decoding of image files with TensorFlow: inside a graph, and as a check of a file."""

import re

import tensorflow as tf

from fcis_tf.structures import Tensor

JPEG_START = b"\xff\xd8\xff"
JPEG_SCAN, JPEG_END = b"\xda", b"\xff\xd9"
# A marker is byte 255 and a code. In pixel data, 0 follows each 255 that is no marker, and the
# codes 208 to 215 only number parts of them.
JPEG_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def decode_image(encoded: Tensor) -> Tensor:
    """A JPEG, PNG, BMP or GIF file as (H, W, 3) uint8 RGB, in its stored orientation."""

    def jpeg() -> Tensor:
        # TensorFlow's default DCT is off by several grey levels from the one that libjpeg, and so
        # OpenCV and Pillow, use by default.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def other() -> Tensor:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    return tf.ensure_shape(image, [None, None, 3])


def check_decodable(encoded: bytes) -> None:
    """Raise what `decode_image` would, at a fraction of the cost for most JPEGs.

    Of those, a corner is decoded, which reads all headers and tables. Pixels cannot be wrong, so
    if nothing but their data follows, up to the marker of the image's end, the rest decodes too.

    Raises:
        tf.errors.InvalidArgumentError: a damaged file.
    """
    if encoded.startswith(JPEG_START):
        tf.io.decode_and_crop_jpeg(encoded, [0, 0, 1, 1], channels=3)
        if _is_one_whole_scan(encoded):
            return
    decode_image(tf.constant(encoded))


def _is_one_whole_scan(jpeg: bytes) -> bool:
    """Whether pixel data begin after the headers and end with the image."""
    place = len(JPEG_START) - 1  # of the first segment: marker, length (2 bytes, itself included)
    while jpeg[place : place + 1] == b"\xff" and jpeg[place + 1 : place + 2] != JPEG_SCAN:
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])
    # Past the header of the scan come the pixels; the next marker must end the image.
    place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])
    found = JPEG_MARK.search(jpeg, place)
    return found is not None and found[0] == JPEG_END
