import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from fcis_tf.config import DataConfig
from fcis_tf.data.decode import decode_image
from fcis_tf.data.pipeline import network_input
from fcis_tf.serving.export.uploads import exif_orientation, read_upload, turned
from tests import fixtures

DATA = DataConfig(validation_short_side=32, validation_long_side=64)


@pytest.fixture(scope="module")
def read():
    """``read(file)``, with images of at most 5000 pixels."""
    return tf.function(
        lambda file: read_upload(file, DATA, max_pixels=5000, upright=True),
        input_signature=[tf.TensorSpec([], tf.string)],
    )


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_good_file_is_what_the_pipeline_makes_of_its_pixels(read, pixels, kind):
    file = fixtures.encode_image(pixels, kind)
    upload = read(tf.constant(file))
    wanted, scale = network_input(decode_image(tf.constant(file)), DATA)
    np.testing.assert_array_equal(upload.pixels, wanted)
    assert upload.scale == scale
    assert upload.original.numpy().tolist() == [50, 70]
    assert upload.error == b""


def png_header(height, width):
    file = fixtures.encode_image(np.zeros((8, 8, 3), np.uint8))
    return file[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + file[24:]


@pytest.mark.parametrize(
    "spoil, text",
    [
        (lambda jpeg, png: b"", b"an empty file"),
        (lambda jpeg, png: b"some text", b"neither JPEG nor PNG"),
        (lambda jpeg, png: b"GIF89a" + bytes(100), b"neither JPEG nor PNG"),
        (lambda jpeg, png: jpeg[:-300], b"damaged or truncated; it cannot be decoded"),
        (lambda jpeg, png: jpeg[:4], b"damaged or truncated; it cannot be decoded"),
        (lambda jpeg, png: png[:-300], b"damaged or truncated; it cannot be decoded"),
        (lambda jpeg, png: png[:20], b"damaged or truncated; it cannot be decoded"),
        (lambda jpeg, png: png_header(0, 8), b"damaged or truncated; it cannot be decoded"),
        (
            lambda jpeg, png: png_header(30000, 20000),
            b"30000 x 20000 pixels; expected at most 5000 in all",
        ),
        (
            lambda jpeg, png: fixtures.encode_image(np.zeros((51, 99, 3), np.uint8), "JPEG"),
            b"51 x 99 pixels; expected at most 5000 in all",
        ),
    ],
)
def test_a_bad_file_gives_a_text_and_raises_nothing(read, pixels, spoil, text):
    files = [fixtures.encode_image(pixels, kind) for kind in ("JPEG", "PNG")]
    upload = read(tf.constant(spoil(*files)))
    assert upload.error.numpy() == text
    assert tf.size(upload.pixels) == 0
    assert upload.original.numpy().tolist() == [0, 0]


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_read_and_applied_as_pillow_does(pixels, orientation, byte_order):
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F] = "a maker whose name is longer than four bytes"
    exif[0x0112] = orientation
    file = fixtures.encode_image(pixels, "JPEG", exif=exif.tobytes(), comment=b"before or behind")
    assert exif_orientation(tf.constant(file)) == orientation
    found = turned(decode_image(tf.constant(file)), tf.constant(orientation))
    np.testing.assert_array_equal(found, ImageOps.exif_transpose(Image.open(io.BytesIO(file))))


def test_without_a_usable_orientation_it_is_one(pixels, rng):
    exif = Image.Exif()
    exif[0x0112] = 9
    with_nine = fixtures.encode_image(pixels, "JPEG", exif=exif.tobytes())
    garbage = with_nine[:14] + bytes(rng.integers(0, 256, 60, dtype=np.uint8)) + with_nine[74:]
    for file in (
        with_nine,
        garbage,
        with_nine[:20],
        fixtures.encode_image(pixels, "JPEG"),
        fixtures.encode_image(pixels, "PNG"),
        b"",
    ):
        assert 1 <= exif_orientation(tf.constant(file)) <= 8
    assert exif_orientation(tf.constant(with_nine)) == 1
