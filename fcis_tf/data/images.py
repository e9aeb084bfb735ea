"""Image files as 8-bit RGB pixels, read with Pillow."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fcis_tf.errors import FcisError


def read_image(source: Path | io.BytesIO, name: str = "", *, upright: bool = False) -> np.ndarray:
    """An image file, or its bytes, as uint8 (H, W, 3) RGB.

    Args:
        source: the file.
        name: what an error message calls it; by default `source`.
        upright: apply the EXIF orientation; by default the image is returned as it is stored.

    Raises:
        FcisError: not an image, or a damaged one.
    """
    try:
        with Image.open(source) as image:
            return np.asarray(to_rgb(ImageOps.exif_transpose(image) if upright else image))
    except FileNotFoundError:
        raise FcisError(f"{source}: no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise FcisError(f"{name or source}: not a readable image ({fault})") from None


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
