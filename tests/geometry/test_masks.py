import numpy as np
import tensorflow as tf

from fcis_tf.geometry.masks import resample
from tests import oracle


def test_resample_equals_the_oracle(rng):
    masks = rng.uniform(size=(6, 9, 7)).astype(np.float32)
    source, target = oracle.random_boxes(rng, (6,)), oracle.random_boxes(rng, (6,))
    expected = [oracle.resample(m, s, t, 11) for m, s, t in zip(masks, source, target, strict=True)]
    np.testing.assert_allclose(resample(masks, source, target, 11), expected, atol=2e-4)


def test_resample_to_its_own_frame_and_size_is_identity(rng):
    masks = rng.uniform(size=(3, 8, 8)).astype(np.float32)
    boxes = oracle.random_boxes(rng, (3,))
    np.testing.assert_allclose(resample(masks, boxes, boxes, 8), masks, atol=1e-4)


def test_resample_equals_tensorflow_resize_in_one_frame(rng):
    """The released code resizes with OpenCV's non-antialiased bilinear, which this is."""
    masks = rng.uniform(size=(2, 21, 21)).astype(np.float32)
    boxes = tf.constant([[0.0, 0.0, 50.0, 50.0]] * 2)
    expected = tf.image.resize(masks[..., None], [50, 50], antialias=False)[..., 0]
    np.testing.assert_allclose(resample(masks, boxes, boxes, 50), expected, atol=1e-4)


def test_outside_the_source_box_is_zero():
    masks = tf.ones([1, 4, 4])
    found = resample(masks, tf.constant([[0.0, 0, 4, 4]]), tf.constant([[0.0, 0, 8, 8]]), 8)[0]
    expected = np.zeros((8, 8))
    expected[:4, :4] = 1
    np.testing.assert_array_equal(found, expected)


def test_empty_boxes_and_no_masks_give_zeros():
    empty = tf.constant([[3.0, 3, 3, 3]])
    whole = tf.constant([[0.0, 0, 8, 8]])
    assert not resample(tf.ones([1, 4, 4]), empty, whole, 5).numpy().any()
    assert resample(tf.ones([0, 4, 4]), tf.zeros([0, 4]), tf.zeros([0, 4]), 5).shape == (0, 5, 5)
