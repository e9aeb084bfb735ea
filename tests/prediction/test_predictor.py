import itertools

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.errors import FcisError
from fcis_tf.instances import cut_out
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.prediction.tiles import merge
from tests.prediction.test_detector import build


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(1)
    return build("data.validation_factor=1.25")


def variant(model, *changes):
    return build("data.validation_factor=1.25", *changes, weights=model.get_weights())


def picture(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def check_equal(found, expected):
    assert [one.label for one in found] == [one.label for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        np.testing.assert_allclose(one.box, other.box, atol=5e-3)
        whole = (0, 0, 200, 200)
        differing = np.count_nonzero(one.inside(whole) != other.inside(whole))
        assert differing <= 0.01 * np.count_nonzero(other.inside(whole)) + 1


@pytest.fixture(scope="module")
def alone(model):
    return Predictor(model)


@pytest.fixture(scope="module")
def tiled(model):
    changes = ("predict.tile=64", "predict.tile_overlap=20", "predict.batch_size=2")
    return Predictor(variant(model, *changes))


def test_a_tiled_image_is_the_merged_windows_each_by_itself(rng, alone, tiled):
    image = picture(rng, 64, 150)
    parts = []
    for x in (0, 43, 86):
        segments = cut_out(*alone.image(image[:, x : x + 64]))
        parts.append(((0, x, 64, x + 64), [one.moved(0, x) for one in segments]))
    expected = merge(parts, 64, 150)
    (found,) = tiled.stream([image])
    assert 8 < len(found) < sum(len(segments) for _, segments in parts)
    check_equal(found, expected)
    instances = tiled.image(image)
    assert instances.masks.shape == (len(found), 64, 150)
    check_equal(cut_out(*instances), expected)


def test_windows_have_the_scale_of_a_full_one(rng, model, tiled):
    """With sides instead of a factor too, also where the image is narrower than a window."""
    sides = ("data.validation_factor=null", "data.validation_short_side=80")
    by_side = Predictor(variant(model, *sides, "predict.tile=64", "predict.tile_overlap=20"))
    image = picture(rng, 40, 150)
    check_equal(next(by_side.stream([image])), next(tiled.stream([image])))


def test_a_stream_keeps_its_order_and_reads_no_further_than_a_batch(rng, alone, tiled):
    sizes = [(60, 50), (60, 50), (60, 50), (50, 120), (64, 50), (60, 50)]
    images = [picture(rng, *size) for size in sizes]
    taken = []

    def watched():
        for number, image in enumerate(images):
            taken.append(number)
            yield image

    found = tiled.stream(watched())
    first = next(found)
    assert taken == [0, 1]
    for image, segments in zip(images, itertools.chain([first], found), strict=True):
        if image.shape[1] <= 64:
            check_equal(segments, cut_out(*alone.image(image)))
        else:
            check_equal(segments, cut_out(*tiled.image(image)))


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3))])
def test_what_is_not_an_rgb_image_is_refused(alone, image):
    for ask in (alone.image, lambda one: next(alone.stream([one]))):
        with pytest.raises(FcisError, match=r"expected uint8 \(H, W, 3\) RGB, found"):
            ask(image)
