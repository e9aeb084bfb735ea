"""The reference of position-sensitive pooling: stock operations against exact arithmetic."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.ops import ps_roi_pool
from fcis_tf.ops.stock import bin_edges
from tests import oracle
from tests.ops.rois import rois_at


@pytest.mark.parametrize(("k", "p"), [(7, 21), (3, 9), (1, 21), (7, 14), (3, 8), (5, 7)])
@pytest.mark.parametrize("stride", [8, 16])
def test_pooling_equals_the_oracle(rng, k, p, stride):
    maps = rng.normal(size=(2, 10, 13, k * k * 3)).astype(np.float32)
    rois = rois_at(stride)
    index = np.arange(len(rois), dtype=np.int32) % 2
    found = ps_roi_pool(maps, rois, index, group_size=k, pooled_size=p, stride=stride)
    expected = oracle.ps_roi_pool(maps, rois, index, k, p, stride)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_edges_of_a_worked_example():
    """ROI from pixel 100 to 260 (inclusive), the first six of 21 bins, counted out by hand."""
    bins = bin_edges(tf.constant([100.0]), tf.constant([261.0]), 63, pooled_size=21, stride=16)
    found = list(zip(bins.low[0, :6].numpy(), bins.high[0, :6].numpy(), strict=True))
    assert found == [(6, 7), (6, 8), (7, 8), (7, 9), (8, 9), (8, 10)]


def test_gradient_equals_the_transpose_of_the_oracle(rng):
    """Pooling is linear in the maps: <g, P m> = <P' g, m> for the oracle's P and any m."""
    k, p = 3, 9
    maps = tf.constant(rng.normal(size=(2, 10, 13, k * k * 2)), tf.float32)
    rois = rois_at(16)
    index = np.arange(len(rois), dtype=np.int32) % 2
    upstream = rng.normal(size=(len(rois), p, p, 2)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        pooled = ps_roi_pool(maps, rois, index, group_size=k, pooled_size=p, stride=16)
        value = tf.reduce_sum(pooled * upstream)
    gradient = tape.gradient(value, maps).numpy()
    for _ in range(5):
        direction = rng.normal(size=maps.shape)
        expected = (oracle.ps_roi_pool(direction, rois, index, k, p, 16) * upstream).sum()
        np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-4, atol=1e-4)


def test_graph_with_unknown_shapes_equals_eager(rng):
    maps = rng.normal(size=(2, 10, 13, 9 * 2)).astype(np.float32)
    rois = rois_at(16)
    index = np.arange(len(rois), dtype=np.int32) % 2
    options = {"group_size": 3, "pooled_size": 9, "stride": 16}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 18]),
            tf.TensorSpec([None, 4]),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def graph(maps, rois, index):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            pooled = ps_roi_pool(maps, rois, index, **options)
        return pooled, tape.gradient(pooled, maps)

    pooled, gradient = graph(maps, rois, index)
    np.testing.assert_array_equal(pooled, ps_roi_pool(maps, rois, index, **options))
    # Each non-empty bin spreads one unit of each channel over its cells.
    filled = (oracle.ps_roi_pool(np.ones_like(maps), rois, index, 3, 9, 16) > 0).sum()
    np.testing.assert_allclose(gradient.numpy().sum(), filled, rtol=1e-5)
    none = graph(maps, rois[:0], index[:0])
    assert none[0].shape == (0, 9, 9, 2) and not none[1].numpy().any()


def test_not_finite_rois_are_harmless():
    maps = tf.ones([1, 5, 5, 9])
    rois = tf.constant([[np.nan] * 4, [-np.inf, -np.inf, np.inf, np.inf], [np.inf] * 4])
    found = ps_roi_pool(maps, rois, tf.zeros([3], tf.int32), group_size=3, pooled_size=9, stride=8)
    assert np.isfinite(found).all()
    assert not found[2].numpy().any()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"maps": tf.ones([1, 5, 5, 10])}, "maps: expected a multiple of 9 channels, found 10"),
        ({"image_index": np.array([1], np.int32)}, "image_index: expected numbers of images"),
        ({"image_index": np.array([-1], np.int32)}, "image_index: expected numbers of images"),
        ({"image_index": np.zeros([2], np.int32)}, "image_index: expected one number for each ROI"),
        ({"image_index": np.zeros([1])}, "image_index: expected int32, found float64"),
        ({"rois": tf.zeros([1, 5])}, "rois: expected shape"),
    ],
)
def test_wrong_arguments_are_named(found, message):
    sound = {
        "maps": tf.ones([1, 5, 5, 9]),
        "rois": tf.zeros([1, 4]),
        "image_index": np.zeros([1], np.int32),
    }
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ps_roi_pool(**(sound | found), group_size=3, pooled_size=9, stride=8)
