"""Tiles are tested with a finder that cannot err: every grey level of a picture is an instance."""

import itertools

import numpy as np
import pytest

from fcis_tf.cutouts import CutOut, cut_out
from fcis_tf.instances import Instances
from fcis_tf.labels import Labels
from fcis_tf.prediction.tiles import detect_tiled, merge, windows
from tests import fixtures

CLASSES = Labels((1, 2, 3), ("a", "b", "c"))


def instances(boxes, labels, scores, masks, height, width):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    cutouts = tuple(cut_out(mask, box) for mask, box in zip(masks, boxes, strict=True))
    columns = np.array(labels, np.int32), np.array(scores, np.float32)
    return Instances(height, width, boxes, *columns, cutouts, CLASSES)


def find(images):
    """All pixels of a grey level as one instance; its class and score follow from the level."""
    for image in images:
        levels = [level for level in np.unique(image) if level]
        masks = np.array([image[..., 0] == level for level in levels], bool)
        boxes = [fixtures.tight_box(mask) for mask in masks]
        labels = [1 + level % 3 for level in levels]
        scores = [level / 256 for level in levels]
        yield instances(boxes, labels, scores, masks, *image.shape[:2])


def picture(rng, height, width, count, largest):
    image = np.zeros((height, width, 3), np.uint8)
    for level in rng.choice(np.arange(1, 256), count, replace=False):
        place = rng.uniform(0, height), rng.uniform(0, width)
        image[fixtures.disc(height, width, *place, rng.uniform(4, largest)) > 0] = level
    return image


@pytest.mark.parametrize("size", [(100, 100), (101, 257), (64, 300), (40, 190), (333, 70)])
@pytest.mark.parametrize("overlap", [1, 16, 40])
def test_windows_of_one_size_cover_the_image_and_overlap(size, overlap):
    places = windows(*size, 64, overlap)
    seen = np.zeros(size, int)
    for y0, x0, y1, x1 in places:
        assert (y1 - y0, x1 - x0) == (min(64, size[0]), min(64, size[1]))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() >= 1
    for axis in (0, 1):
        spans = sorted({(place[axis], place[axis + 2]) for place in places})
        assert all(after[0] <= before[1] - overlap for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize("largest", [12, 40, 120])
def test_tiles_give_what_the_whole_image_gives(rng, largest):
    """Also instances of several windows' size, in pieces that others cover."""
    image = picture(rng, 260, 310, 40, largest)
    expected = next(find([image]))
    expected = expected[np.argsort(-expected.scores, kind="stable")]
    found = detect_tiled(find, image, side=96, overlap=24)
    check_equal(found, expected)


def check_equal(found, expected):
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.masks, expected.masks)


def square(label, score, y0, x0, y1, x1):
    """One instance whose mask fills its box, in an image of 50 x 100."""
    mask = CutOut(y0, x0, np.ones((y1 - y0, x1 - x0), bool))
    columns = np.array([label], np.int32), np.array([score], np.float32)
    box = np.array([[y0, x0, y1, x1]], np.float32)
    return Instances(50, 100, box, *columns, (mask,), CLASSES)


NONE = square(1, 0.5, 0, 0, 1, 1)[:0]
LEFT, RIGHT = (0, 0, 50, 60), (0, 40, 50, 100)


def merged(left, right):
    return merge([LEFT, RIGHT], [left, right])


def test_the_better_of_two_whole_views_stays():
    one, two = square(1, 0.7, 10, 45, 20, 55), square(1, 0.8, 10, 45, 21, 55)
    check_equal(merged(one, two), two)


def test_a_whole_view_is_preferred_to_a_better_scored_cut_one():
    cut, whole = square(1, 0.9, 10, 45, 20, 60), square(1, 0.6, 10, 45, 20, 70)
    check_equal(merged(cut, whole), whole)


def test_views_that_disagree_stay_apart():
    """Another class, or masks that hardly overlap that both windows show."""
    left = square(1, 0.9, 10, 20, 20, 60)
    for other in (square(2, 0.8, 10, 40, 20, 80), square(1, 0.8, 18, 40, 40, 80)):
        assert len(merged(left, other)) == 2


def test_a_cut_sliver_that_its_neighbour_would_show_whole_is_dropped():
    sliver = square(1, 0.9, 10, 56, 20, 60)
    assert len(merged(sliver, NONE)) == 0
    whole = square(1, 0.5, 10, 56, 40, 90)
    check_equal(merged(sliver, whole), whole)
    # At the border of the image nothing is cut.
    edge = square(1, 0.9, 0, 90, 20, 100)
    check_equal(merged(NONE, edge), edge)


def test_an_instance_that_all_windows_cut_is_joined():
    left, right = square(1, 0.6, 10, 5, 20, 60), square(1, 0.9, 9, 40, 21, 95)
    found = merged(left, right)
    assert found.labels.tolist() == [1] and found.boxes.tolist() == [[9, 5, 21, 95]]
    assert found.scores[0] == np.float32(0.9)
    np.testing.assert_array_equal(found.masks, left.masks | right.masks)
