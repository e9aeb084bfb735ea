"""Heads on the score maps: the joint form and the two ablations of paper Table 1."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.model.heads import read_heads
from fcis_tf.structures import Maps
from tests import oracle

K = 4


def random_maps(rng, k, size=10):
    scores = rng.normal(size=(2, size, size, k * k * 2 * K)).astype(np.float32)
    boxes = rng.normal(size=(2, size, size, k * k * 4)).astype(np.float32)
    return Maps(None, tf.constant(scores), tf.constant(boxes))


def pooled(maps, rois, k, p):
    """Oracle: (B, N, p, p, 2, K) and (B, N, 4)."""
    images, count = rois.shape[:2]
    index = np.repeat(np.arange(images), count)
    flat = rois.reshape(-1, 4)
    scores = oracle.ps_roi_pool(maps.scores.numpy(), flat, index, k, p, 16)
    boxes = oracle.ps_roi_pool(maps.boxes.numpy(), flat, index, k, p, 16)
    return scores.reshape(images, count, p, p, 2, K), boxes.mean((1, 2)).reshape(images, count, 4)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", ["joint", "separate"])
@pytest.mark.parametrize(("k", "p"), [(3, 9), (1, 5)])
def test_answers_follow_the_paper(rng, kind, k, p, labelled):
    maps, rois = random_maps(rng, k), oracle.random_boxes(rng, (2, 6), high=160.0)
    labels = rng.integers(0, K, (2, 6)).astype(np.int32) if labelled else None
    found = read_heads(maps, rois, labels, score_maps=kind, group_size=k, pooled_size=p, stride=16)
    scores, boxes = pooled(maps, rois, k, p)
    evidence = scores.max(-2) if kind == "joint" else scores[..., 0, :]
    logits = evidence.mean((2, 3))
    np.testing.assert_allclose(found.class_logits, logits, atol=1e-5)
    np.testing.assert_allclose(found.box_deltas, boxes, atol=1e-5)
    chosen = labels if labelled else 1 + logits[..., 1:].argmax(-1)
    pair = np.take_along_axis(scores, chosen[:, :, None, None, None, None], -1)[..., 0]
    inside = 1 / (1 + np.exp(-pair[..., 1] + (pair[..., 0] if kind == "joint" else 0.0)))
    np.testing.assert_allclose(tf.nn.softmax(found.mask_logits)[..., 1], inside, atol=1e-5)


def test_separate_maps_do_not_share_a_gradient(rng):
    """The class answer trains side 0 alone, the mask answer side 1 of the label's class alone."""
    maps, rois = random_maps(rng, 3), oracle.random_boxes(rng, (2, 6), high=160.0)
    labels = np.full((2, 6), 2, np.int32)

    def touched(answer):
        with tf.GradientTape() as tape:
            tape.watch(maps.scores)
            found = read_heads(
                maps, rois, labels, score_maps="separate", group_size=3, pooled_size=9, stride=16
            )
            total = tf.reduce_sum(getattr(found, answer) ** 2)
        gradient = tape.gradient(total, maps.scores).numpy().reshape(2, 10, 10, 9, 2, K)
        return {(int(s), int(c)) for s, c in np.argwhere(np.abs(gradient).sum((0, 1, 2, 3)) > 0)}

    assert touched("class_logits") == {(0, c) for c in range(K)}
    assert touched("mask_logits") == {(1, 2)}


def test_one_group_is_translation_invariant(rng):
    """With k = 1 a bin says the same wherever in a ROI it lies; with k = 3 it does not."""
    for k in (1, 3):
        maps = random_maps(rng, k, 12)
        # Two ROIs of whole cells whose bins are single cells, one cell apart.
        rois = np.array([[[32.0, 32, 112, 112], [48, 32, 128, 112]]] * 2, np.float32)
        labels = np.ones((2, 2), np.int32)
        found = read_heads(maps, rois, labels, group_size=k, pooled_size=5, stride=16)
        same = np.allclose(found.mask_logits[:, 0, 1:], found.mask_logits[:, 1, :-1], atol=1e-6)
        assert same == (k == 1)
