import numpy as np
import tensorflow as tf

from fcis_tf.geometry import boxes as box_ops
from tests import oracle


def test_iou_equals_the_oracle(rng):
    a, b = oracle.random_boxes(rng, (2, 7)), oracle.random_boxes(rng, (2, 5))
    a[0, 0] = [10, 10, 10, 20]  # empty
    expected = [[[oracle.iou(x, y) for y in b[i]] for x in a[i]] for i in range(2)]
    np.testing.assert_allclose(box_ops.iou(a, b), expected, atol=1e-6)


def test_iou_of_two_empty_boxes_is_zero():
    empty = tf.zeros([1, 1, 4])
    assert float(box_ops.iou(empty, empty)[0, 0, 0]) == 0.0


def test_decode_inverts_encode(rng):
    boxes, references = oracle.random_boxes(rng, (50,)), oracle.random_boxes(rng, (50,))
    deltas = box_ops.encode(boxes, references)
    np.testing.assert_allclose(box_ops.decode(deltas, references), boxes, atol=1e-3)


def test_encode_equals_the_released_inclusive_formula(rng):
    """With inclusive x2 = x1' - 1 and w = x2 - x1 + 1 the released formula agrees."""
    boxes, references = oracle.random_boxes(rng, (20,)), oracle.random_boxes(rng, (20,))
    found = box_ops.encode(boxes, references).numpy()
    for (y0, x0, y1, x1), (v0, u0, v1, u1), delta in zip(boxes, references, found, strict=True):
        width, height = (x1 - 1) - x0 + 1, (y1 - 1) - y0 + 1
        ex_width, ex_height = (u1 - 1) - u0 + 1, (v1 - 1) - v0 + 1
        dx = ((x0 + 0.5 * (width - 1)) - (u0 + 0.5 * (ex_width - 1))) / ex_width
        dy = ((y0 + 0.5 * (height - 1)) - (v0 + 0.5 * (ex_height - 1))) / ex_height
        expected = [dy, dx, np.log(height / ex_height), np.log(width / ex_width)]
        np.testing.assert_allclose(delta, expected, atol=1e-4)


def test_decode_of_an_untrained_network_is_finite():
    deltas = tf.constant([[0.0, 0.0, 500.0, 500.0]])
    assert np.isfinite(box_ops.decode(deltas, tf.constant([[0.0, 0.0, 10.0, 10.0]]))).all()


def test_clip_uses_each_image_size():
    boxes = tf.constant([[[-5.0, -5.0, 50.0, 90.0]], [[-5.0, 3.0, 50.0, 90.0]]])
    size = tf.constant([[40.0, 80.0], [60.0, 70.0]])
    expected = [[[0, 0, 40, 80]], [[0, 3, 50, 70]]]
    np.testing.assert_array_equal(box_ops.clip(boxes, size[:, None]), expected)
