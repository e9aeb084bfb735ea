import numpy as np

from fcis_tf.geometry.paste import paste_masks
from tests import oracle


def test_paste_equals_the_oracle(rng):
    votes = rng.uniform(size=(12, 9, 9)).astype(np.float32)
    boxes = oracle.random_boxes(rng, (12,), low=-8.0, high=38.0, least=6.0)
    pixels = [(i, y, x) for i in range(12) for y in range(30) for x in range(40)]
    values = np.array([oracle.sample(votes[i], boxes[i], y + 0.5, x + 0.5) for i, y, x in pixels])
    assert (values > 0).sum() > 1000
    for threshold in (0.3, 0.5, 0.7):
        found = paste_masks(votes, boxes, 30, 40, threshold).ravel()
        clear = np.abs(values - threshold) > 1e-5  # float32 against float64
        assert (~clear).sum() < 3
        np.testing.assert_array_equal(found[clear], values[clear] >= threshold)


def test_the_threshold_itself_belongs_to_the_mask():
    votes, box = np.full((1, 2, 2), 0.5, np.float32), np.array([[0.0, 0, 4, 4]])
    assert paste_masks(votes, box, 4, 4, 0.5).all()
    assert not paste_masks(votes, box, 4, 4, np.nextafter(np.float32(0.5), np.float32(1))).any()


def test_empty_boxes_and_no_masks():
    assert not paste_masks(np.ones((1, 4, 4)), np.array([[3, 3, 3, 9.0]]), 10, 10, 0.5).any()
    assert paste_masks(np.ones((0, 4, 4)), np.zeros((0, 4)), 10, 10, 0.5).shape == (0, 10, 10)


def test_a_full_mask_fills_its_box():
    found = paste_masks(np.ones((1, 1, 1)), np.array([[2, 3, 6, 9.0]]), 10, 12, 0.5)[0]
    expected = np.zeros((10, 12), bool)
    expected[2:6, 3:9] = True
    np.testing.assert_array_equal(found, expected)
