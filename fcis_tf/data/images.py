"""Image files as 8-bit RGB pixels, in graph mode and with Pillow."""

import numpy as np
import tensorflow as tf
from PIL import Image

from fcis_tf.structures import Tensor

JPEG_START = b"\xff\xd8\xff"


def decode_image(encoded: Tensor) -> Tensor:
    """A JPEG, PNG, BMP or GIF file as (H, W, 3) uint8 RGB, in its stored orientation."""

    def jpeg() -> Tensor:
        # The default transform is off by several grey levels (spec section 1.1).
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def other() -> Tensor:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    return tf.ensure_shape(image, [None, None, 3])


def check_decodable(encoded: bytes) -> None:
    """Raise what `decode_image` would; of a JPEG only an eighth of the pixels is worked out.

    Raises:
        tf.errors.InvalidArgumentError: a damaged file.
    """
    if encoded.startswith(JPEG_START):
        tf.io.decode_jpeg(encoded, channels=3, ratio=8)
    else:
        decode_image(tf.constant(encoded))


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode in 8-bit RGB, as `decode_image` reads the same file.

    Of 16 bits the upper 8 are kept; Pillow's own conversion makes everything above 255 white.

    Raises:
        ValueError: 32-bit pixels, whose range no file states.
    """
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels; save the image with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
