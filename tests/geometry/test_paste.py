import numpy as np

from fcis_tf.geometry.paste import paste_masks
from tests import oracle


def test_paste_equals_the_oracle(rng):
    votes = rng.uniform(size=(8, 9, 9)).astype(np.float32)
    boxes = oracle.random_boxes(rng, (8,), low=-10.0, high=50.0)
    found = paste_masks(votes, boxes, 30, 40, 0.5)
    near = 0
    for i in range(8):
        for y in range(30):
            for x in range(40):
                value = oracle.sample(votes[i], boxes[i], y + 0.5, x + 0.5)
                if abs(value - 0.5) < 1e-4:
                    near += 1
                    continue
                assert found[i, y, x] == (value >= 0.5)
    assert near < 5


def test_empty_boxes_and_no_masks():
    assert not paste_masks(np.ones((1, 4, 4)), np.array([[3, 3, 3, 9.0]]), 10, 10, 0.5).any()
    assert paste_masks(np.ones((0, 4, 4)), np.zeros((0, 4)), 10, 10, 0.5).shape == (0, 10, 10)


def test_a_full_mask_fills_its_box():
    found = paste_masks(np.ones((1, 1, 1)), np.array([[2, 3, 6, 9.0]]), 10, 12, 0.5)[0]
    expected = np.zeros((10, 12), bool)
    expected[2:6, 3:9] = True
    np.testing.assert_array_equal(found, expected)
