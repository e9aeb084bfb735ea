import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco_mask

from fcis_tf.data.mask_png import encode_mask
from fcis_tf.data.sources.segmentation import _decompress, _fill
from tests.fixtures import disc


def masks():
    rng = np.random.default_rng(0)
    noise = (rng.uniform(size=(37, 53)) < 0.5).astype(np.uint8)
    one = np.zeros((37, 53), np.uint8)
    one[36, 52] = 1
    return {
        "blank": np.zeros((37, 53), np.uint8),
        "full": np.ones((37, 53), np.uint8),
        "noise": noise,
        "last pixel": one,
        "first pixel": one[::-1, ::-1],
        "disc": disc(480, 640, 200, 300, 90),
        "one pixel": np.ones((1, 1), np.uint8),
        "column": np.ones((700, 1), np.uint8),
        "large": disc(3000, 4000, 200, 3000, 300),  # checksums wrap around
    }


@pytest.mark.parametrize("name", masks())
def test_other_libraries_read_what_was_encoded(name):
    mask = masks()[name]
    encoded = encode_mask(mask)
    with Image.open(io.BytesIO(encoded)) as image:  # compares the checksums
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), mask)
    np.testing.assert_array_equal(tf.io.decode_png(encoded)[..., 0], mask)


def test_a_mask_in_any_memory_order_has_the_same_bytes():
    mask = disc(60, 80, 20, 30, 15)
    assert encode_mask(np.asfortranarray(mask)) == encode_mask(mask)


@pytest.mark.parametrize("name", masks())
def test_run_lengths_fill_what_pycocotools_fills(name):
    mask = masks()[name]
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0))
    runs = np.diff(changes, prepend=0, append=mask.size).tolist()
    height, width = mask.shape
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    np.testing.assert_array_equal(_decompress([rle["counts"].decode()])[0], runs)
    np.testing.assert_array_equal(_fill(np.array(runs), height, width), coco_mask.decode(rle))
