import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.ops import ps_assemble, ps_roi_pool
from fcis_tf.ops.ps_assembly import bin_edges
from tests import oracle

ROIS = {
    "inside": [20.0, 30.0, 90.0, 120.0],
    "whole map": [0.0, 0.0, 160.0, 208.0],
    "over every border": [-40.0, -30.0, 300.0, 400.0],
    "outside": [500.0, 600.0, 700.0, 800.0],
    "inverted": [90.0, 120.0, 20.0, 30.0],
    "one pixel": [33.0, 47.0, 34.0, 48.0],
    "sub-pixel": [33.2, 47.1, 33.4, 47.3],
    "on the half": [10.5, 11.5, 60.5, 71.5],
    "negative half": [-10.5, -3.5, 40.0, 40.0],
}


@pytest.mark.parametrize(("k", "p"), [(7, 21), (3, 9), (1, 21), (7, 14), (3, 8), (5, 7)])
@pytest.mark.parametrize("stride", [8, 16])
def test_pooling_equals_the_oracle(rng, k, p, stride):
    maps = rng.normal(size=(2, 10, 13, k * k * 3)).astype(np.float32)
    rois = np.array([*ROIS.values()], np.float32) * stride / 16
    index = np.arange(len(rois)) % 2
    found = ps_roi_pool(maps, rois, index, group_size=k, pooled_size=p, stride=stride)
    expected = oracle.ps_roi_pool(maps, rois, index, k, p, stride)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_edges_of_the_specification():
    """Spec annex D: ROI x1 = 100, x2 = 260 (inclusive), first six bins."""
    bins = bin_edges(tf.constant([100.0]), tf.constant([261.0]), 63, pooled_size=21, stride=16)
    found = list(zip(bins.low[0, :6].numpy(), bins.high[0, :6].numpy(), strict=True))
    assert found == [(6, 7), (6, 8), (7, 8), (7, 9), (8, 9), (8, 10)]


def test_gradient_equals_the_transpose_of_the_oracle(rng):
    """Pooling is linear in the maps: <g, P m> = <P' g, m> for the oracle's P and any m."""
    k, p = 3, 9
    maps = tf.constant(rng.normal(size=(2, 10, 13, k * k * 2)), tf.float32)
    rois = np.array([*ROIS.values()], np.float32)
    index = np.arange(len(rois)) % 2
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
    rois = np.array([*ROIS.values()], np.float32)
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


def test_wrong_channel_count_names_the_argument():
    with pytest.raises(ValueError, match="maps: expected a multiple of 9 channels, found 10"):
        ps_roi_pool(
            tf.ones([1, 5, 5, 10]),
            tf.zeros([1, 4]),
            tf.zeros([1], tf.int32),
            group_size=3,
            pooled_size=9,
            stride=8,
        )


def assembled(rng, labels=None):
    k, p, classes = 3, 9, 4
    maps = rng.normal(size=(2, 10, 13, k * k * 2 * classes)).astype(np.float32)
    rois = np.array([*ROIS.values()][:6], np.float32).reshape(2, 3, 4)
    found = ps_assemble(maps, rois, labels, group_size=k, pooled_size=p, stride=16)
    index = np.repeat([0, 1], 3)
    pooled = oracle.ps_roi_pool(maps, rois.reshape(6, 4), index, k, p, 16)
    return found, pooled.reshape(2, 3, p, p, 2, classes)


def test_assembly_is_max_then_mean_and_the_best_foreground_pair(rng):
    (logits, masks), pooled = assembled(rng)
    expected = pooled.max(4).mean((2, 3))
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    best = 1 + expected[..., 1:].argmax(-1)
    for i in range(2):
        for r in range(3):
            np.testing.assert_allclose(masks[i, r], pooled[i, r, ..., best[i, r]], atol=1e-6)


def test_assembly_picks_the_pair_of_a_given_label(rng):
    labels = np.array([[2, 0, -1], [3, 1, 2]])
    (_, masks), pooled = assembled(rng, labels)
    for i in range(2):
        for r in range(3):
            expected = pooled[i, r, ..., max(labels[i, r], 0)]
            np.testing.assert_allclose(masks[i, r], expected, atol=1e-6)
