import numpy as np
import tensorflow as tf

from fcis_tf.structures import AnchorTargets, Heads, RoiTargets, Rpn
from fcis_tf.training.losses import keep_hardest, roi_losses, rpn_losses, smooth_l1
from tests import oracle


def test_smooth_l1_values():
    found = smooth_l1(tf.constant([0.1, 1.0, -1.0, 0.0]), 3.0)
    np.testing.assert_allclose(found, [0.045, 1 - 1 / 18, 1 - 1 / 18, 0.0], rtol=1e-6)


def random_roi(rng, rois=12, classes=3, p=5):
    heads = Heads(
        rng.normal(size=(2, rois, classes + 1)).astype(np.float32),
        rng.normal(size=(2, rois, 4)).astype(np.float32),
        rng.normal(size=(2, rois, p, p, 2)).astype(np.float32),
    )
    targets = RoiTargets(
        oracle.random_boxes(rng, (2, rois)),
        rng.integers(-1, classes + 1, (2, rois)).astype(np.int32),
        rng.normal(size=(2, rois, 4)).astype(np.float32),
        rng.integers(0, 2, (2, rois, p, p)).astype(np.int32),
    )
    return heads, targets


def roi_loop(heads, targets):
    """Unweighted class, box and mask loss of every ROI."""
    out = np.zeros((3, *targets.labels.shape))
    for i, r in np.ndindex(*targets.labels.shape):
        label = targets.labels[i, r]
        if label >= 0:
            out[0, i, r] = -np.log(oracle.softmax(heads.class_logits[i, r])[label])
        if label > 0:
            difference = heads.box_deltas[i, r] - targets.deltas[i, r]
            out[1, i, r] = sum(oracle.smooth_l1(d, 1.0) for d in difference)
            sides = oracle.softmax(heads.mask_logits[i, r])
            right = np.take_along_axis(sides, targets.masks[i, r][..., None], -1)
            out[2, i, r] = -np.log(right).mean()
    return out


def test_rpn_losses_equal_the_oracle(rng):
    logits = rng.normal(size=(2, 30, 2)).astype(np.float32)
    deltas = rng.normal(size=(2, 30, 4)).astype(np.float32)
    labels = rng.integers(-1, 2, (2, 30)).astype(np.int32)
    target = rng.normal(size=(2, 30, 4)).astype(np.float32)
    found = rpn_losses(Rpn(logits, deltas), AnchorTargets(labels, target), batch_size=16)
    score, box = 0.0, 0.0
    for i in range(2):
        valid = np.flatnonzero(labels[i] >= 0)
        chance = oracle.softmax(logits[i])
        score += np.mean([-np.log(chance[a, labels[i, a]]) for a in valid])
        for a in np.flatnonzero(labels[i] == 1):
            box += sum(oracle.smooth_l1(d, 3.0) for d in deltas[i, a] - target[i, a]) / 16
    np.testing.assert_allclose(found["rpn_class"], score, rtol=1e-5)
    np.testing.assert_allclose(found["rpn_box"], box, rtol=1e-5)


def test_roi_losses_equal_the_oracle(rng):
    heads, targets = random_roi(rng)
    found = roi_losses(heads, targets, batch_size=8, mask_weight=10.0)
    each = roi_loop(heads, targets)
    counts = (targets.labels >= 0).sum(1)
    np.testing.assert_allclose(found["roi_class"], (each[0].sum(1) / counts).sum(), rtol=1e-5)
    np.testing.assert_allclose(found["roi_box"], each[1].sum() / 8, rtol=1e-5)
    np.testing.assert_allclose(found["roi_mask"], 10 * each[2].sum() / 8, rtol=1e-5)


def test_losses_without_any_label_are_zero_with_zero_gradient(rng):
    heads, targets = random_roi(rng)
    heads = Heads(*map(tf.constant, heads))
    targets = targets._replace(labels=np.full_like(targets.labels, -1))
    with tf.GradientTape() as tape:
        tape.watch(heads)
        total = tf.add_n([*roi_losses(heads, targets, batch_size=8, mask_weight=10.0).values()])
    assert float(total) == 0.0
    for gradient in tape.gradient(total, [*heads]):
        assert not np.asarray(gradient).any()


def test_hard_examples_are_those_of_largest_weighted_loss(rng):
    heads, targets = random_roi(rng)
    kept = keep_hardest(heads, targets, count=4, mask_weight=10.0).labels.numpy()
    each = roi_loop(heads, targets)
    total = each[0] + each[1] + 10 * each[2]
    for i in range(2):
        total[i][targets.labels[i] < 0] = -1
        hardest = np.argsort(-total[i])[:4]
        expected = np.full(12, -1)
        expected[hardest] = targets.labels[i][hardest]
        np.testing.assert_array_equal(kept[i], expected)


def test_sum_of_single_images_is_the_batch(rng):
    heads, targets = random_roi(rng)
    both = roi_losses(heads, targets, batch_size=8, mask_weight=10.0)
    halves = [
        roi_losses(
            Heads(*(x[i : i + 1] for x in heads)),
            RoiTargets(*(x[i : i + 1] for x in targets)),
            batch_size=8,
            mask_weight=10.0,
        )
        for i in range(2)
    ]
    for name, value in both.items():
        np.testing.assert_allclose(value, halves[0][name] + halves[1][name], rtol=1e-5)
