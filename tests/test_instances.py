import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fcis_tf.errors import FcisError
from fcis_tf.evaluation import coco
from fcis_tf.instances import Segment, cut_out, encode, label_map, results
from fcis_tf.labels import Labels
from tests import fixtures

HEIGHT, WIDTH = 40, 60
LABELS = Labels((3, 7), ("disc", "block"))


@pytest.fixture
def found(rng):
    """Boxes, labels, scores and masks; some at the borders, one the whole image, one empty."""
    places = [(20, 30, 9), (0, 0, 6), (39, 59, 8), (10, 59, 5), (39, 20, 7)]
    masks = [fixtures.disc(HEIGHT, WIDTH, *place) for place in places]
    corners = np.zeros((HEIGHT, WIDTH))
    corners[30:, 20:25] = 1  # the last pixel of its last column is the last of a column
    masks += [corners, np.ones((HEIGHT, WIDTH)), rng.random((HEIGHT, WIDTH)) < 0.5]
    boxes = [
        np.add(fixtures.tight_box(m), rng.uniform([-0.9] * 2 + [0] * 2, [0] * 2 + [0.9] * 2))
        for m in masks
    ]
    boxes = np.clip(boxes, 0, [HEIGHT, WIDTH] * 2).astype(np.float32)
    masks.append(np.zeros((HEIGHT, WIDTH)))
    boxes = np.concatenate([boxes, [[5, 5, 6, 6]]]).astype(np.float32)
    count = len(masks)
    return boxes, rng.integers(1, 3, count), rng.uniform(0, 1, count), np.array(masks, bool)


def test_a_cut_out_put_back_is_the_mask(found):
    for segment, mask in zip(cut_out(*found), found[3], strict=True):
        np.testing.assert_array_equal(segment.inside((0, 0, HEIGHT, WIDTH)), mask)
        np.testing.assert_array_equal(segment.inside((7, 11, 29, 42)), mask[7:29, 11:42])
        beyond = segment.moved(-5, 4).inside((0, 0, HEIGHT, WIDTH))
        np.testing.assert_array_equal(beyond[:-5, 4:], mask[5:, :-4])


def test_rle_is_that_of_the_whole_mask(found):
    for segment, mask in zip(cut_out(*found), found[3], strict=True):
        rle = encode(segment, HEIGHT, WIDTH)
        assert rle == coco.encode_mask(mask)
        np.testing.assert_array_equal(coco_mask.decode(rle), mask)


def test_results_are_those_of_whole_masks(found):
    boxes, labels, scores, masks = found
    expected = coco.results("a.png", boxes, labels, scores, masks, LABELS)
    assert results("a.png", cut_out(*found), HEIGHT, WIDTH, LABELS) == expected


def test_label_maps_number_instances_and_the_first_counts(found):
    numbers = label_map(cut_out(*found), HEIGHT, WIDTH)
    masks = found[3]
    assert numbers.dtype == np.uint16
    first = np.where(masks.any(0), masks.argmax(0) + 1, 0)
    np.testing.assert_array_equal(numbers, first)


def test_too_many_instances_for_a_label_map_are_refused():
    dot = Segment(1, 0.5, (0.0, 0.0, 1.0, 1.0), (0, 0), np.ones((1, 1), bool))
    with pytest.raises(FcisError, match="at most 65535 instances, found 65536"):
        label_map([dot] * 65536, 4, 4)
