import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.prediction.tiles import merge
from tests import fixtures
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
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=5e-3)
    for one, other in zip(found.cutouts, expected.cutouts, strict=True):
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
        parts.append(alone.predict_image(image[:, x : x + 64]).moved(0, x, 64, 150))
    expected = merge([(0, x, 64, x + 64) for x in (0, 43, 86)], parts)
    found = tiled.predict_image(image)
    assert 8 < len(found) < sum(len(part) for part in parts)
    check_equal(found, expected)
    assert found.masks.shape == (len(found), 64, 150)
    np.testing.assert_array_equal(found.image, image)


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
    for image, instances in zip(images, itertools.chain([first], found), strict=True):
        by_itself = alone if image.shape[1] <= 64 else tiled
        check_equal(instances, by_itself.predict_image(image))


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3))])
def test_what_is_not_an_rgb_image_is_refused(alone, image):
    for predict in (alone.predict_image, lambda one: next(alone.stream([one]))):
        with pytest.raises(FcisError, match=r"expected uint8 \(H, W, 3\) RGB, found"):
            predict(image)


def test_files_bytes_and_arrays_lists_and_iterators(rng, alone, tmp_path):
    image = picture(rng, 50, 60)
    file = tmp_path / "a.png"
    file.write_bytes(fixtures.encode_image(image))
    expected = alone.predict_image(image)
    sources = [file, str(file), file.read_bytes(), image]
    for source in sources:
        check_equal(alone.predict_image(source), expected)
    found = alone.predict_image(sources)
    assert isinstance(found, list) and len(found) == 4
    lazy = alone.predict_image(iter(sources))
    check_equal(next(lazy), expected)
    with pytest.raises(FcisError, match="no such file"):
        alone.predict_image(tmp_path / "absent.png")
    with pytest.raises(FcisError, match="image: not a readable image"):
        alone.predict_image(b"text")


def test_image_files_are_turned_by_their_exif_orientation(rng, alone):
    image = picture(rng, 50, 60)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = fixtures.encode_image(image, "PNG", exif=exif.tobytes())
    upright = alone.predict_image(np.rot90(image, -1).copy())
    check_equal(alone.predict_image(file), upright)
    check_equal(alone.predict_image(file, upright=False), alone.predict_image(image))


def test_labels_of_another_number_are_refused(model):
    with pytest.raises(FcisError, match="expected 3 classes as the network has, found 1"):
        Predictor(model, labels=Labels((1,), ("a",)))
