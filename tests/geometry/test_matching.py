import numpy as np
import tensorflow as tf

from fcis_tf.geometry.matching import match, random_keys, subsample
from tests import oracle


def test_match_finds_the_best_present_instance(rng):
    boxes, truth = oracle.random_boxes(rng, (2, 30)), oracle.random_boxes(rng, (2, 6))
    present = np.array([[True] * 6, [True, False, True, False, True, False]])
    best, overlap, overlaps = match(boxes, truth, present)
    for i in range(2):
        for n in range(30):
            each = [oracle.iou(boxes[i, n], truth[i, g]) * present[i, g] for g in range(6)]
            assert best[i, n] == int(np.argmax(each)) or max(each) == 0
            np.testing.assert_allclose(overlap[i, n], max(each), atol=1e-6)
            np.testing.assert_allclose(overlaps[i, n], each, atol=1e-6)


def test_match_without_instances():
    best, overlap, _ = match(tf.zeros([2, 3, 4]), tf.zeros([2, 0, 4]), tf.zeros([2, 0], tf.bool))
    assert not best.numpy().any() and not overlap.numpy().any()


def test_subsample_takes_that_many_candidates_and_no_other(rng):
    candidates = rng.uniform(size=(4, 100)) < [[0.0], [0.05], [0.5], [1.0]]
    keys = rng.uniform(size=(4, 100)).astype(np.float32)
    chosen = subsample(candidates, tf.constant([10, 10, 3, 10]), 10, keys).numpy()
    assert not (chosen & ~candidates).any()
    expected = np.minimum(candidates.sum(1), [10, 10, 3, 10])
    np.testing.assert_array_equal(chosen.sum(1), expected)


def test_subsample_is_uniform():
    candidates = tf.ones([4000, 8], tf.bool)
    seeds = tf.stack([tf.range(4000), tf.zeros([4000], tf.int32)], 1)
    keys = tf.function(random_keys)(seeds, 8, 1)
    chosen = subsample(candidates, tf.fill([4000], 2), 2, keys).numpy()
    # 1000 expected a column; 5 standard deviations of a binomial are 137.
    assert np.abs(chosen.sum(0) - 1000).max() < 137


def test_random_keys_depend_on_the_image_alone():
    seeds = tf.constant([[1, 2], [3, 4], [1, 2]])
    keys = random_keys(seeds, 50, 7).numpy()
    np.testing.assert_array_equal(keys[0], keys[2])
    np.testing.assert_array_equal(keys[1], random_keys(seeds[1:2], 50, 7)[0])
    assert (keys[0] != keys[1]).any()
    assert (keys[0] != random_keys(seeds[:1], 50, 8)[0].numpy()).any()
