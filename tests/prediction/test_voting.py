import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import PredictConfig
from fcis_tf.prediction.postprocess import postprocess
from fcis_tf.prediction.suppression import Kept
from fcis_tf.prediction.voting import Voters, tighten, vote
from fcis_tf.structures import Candidates, Heads, ImageInfo
from tests import oracle

OPTIONS = {
    "min_size": 2.0,
    "nms_threshold": 0.3,
    "max_detections": 20,
    "score_threshold": 1e-3,
    "vote_iou": 0.5,
    "mask_threshold": 0.4,
    "mask_size": 28,
    "voting": "binary",
}


def random_rois(rng, count=40, classes=3, p=9):
    rois = oracle.random_boxes(rng, (1, count), low=0.0, high=120.0, least=20.0)
    logits = rng.normal(scale=2.0, size=(1, count, classes + 1)).astype(np.float32)
    masks = rng.normal(size=(1, count, p, p, 2)).astype(np.float32)
    return rois, np.ones((1, count), bool), logits, masks


def run(rois, valid, logits, masks, scale=1.0, size=(120, 120), **changes):
    heads = Heads(tf.constant(logits), tf.zeros_like(rois), tf.constant(masks))
    candidates = Candidates(tf.constant(rois), tf.constant(valid), heads)
    sizes = tf.constant([size])
    info = ImageInfo(tf.cast(sizes, tf.float32) * scale, tf.constant([scale], tf.float32), sizes)
    return postprocess(candidates, info, PredictConfig(**{**OPTIONS, **changes}))


def test_scores_and_classes_equal_per_class_suppression(rng):
    rois, valid, logits, masks = random_rois(rng)
    found = run(rois, valid, logits, masks)
    scores = oracle.softmax(logits[0])
    rows = [
        (scores[i, c], c)
        for c in range(1, 4)
        for i in oracle.nms(rois[0], scores[:, c], 0.3)
        if scores[i, c] > 1e-3
    ]
    rows = sorted(rows, reverse=True)[:20]
    np.testing.assert_allclose(found.scores[0][: len(rows)], [r[0] for r in rows], atol=1e-6)
    np.testing.assert_array_equal(found.labels[0][: len(rows)], [r[1] for r in rows])


def test_maskness_multiplies_scores_by_the_mean_vote_inside_and_sorts_again(rng):
    rois, valid, logits, masks = random_rois(rng)
    valid[0, 30:] = False
    plain = run(rois, valid, logits, masks, voting="soft", max_detections=60)
    found = run(rois, valid, logits, masks, voting="soft", max_detections=60, maskness=True)
    rows = []
    for n in np.flatnonzero(plain.valid[0]):
        votes = plain.masks[0, n].numpy()
        rows.append((plain.scores[0, n].numpy() * votes[votes >= 0.4].mean(), n))
    order = [n for _, n in sorted(rows, key=lambda row: -row[0])]
    assert order != sorted(order) and not np.all(plain.valid)
    np.testing.assert_array_equal(found.valid[0], np.arange(60) < len(order))
    scores = sorted((score for score, _ in rows), reverse=True)
    np.testing.assert_allclose(found.scores[0][: len(order)], scores, rtol=1e-5)
    for name in ("boxes", "labels", "masks"):
        expected = getattr(plain, name).numpy()[0, order]
        np.testing.assert_array_equal(getattr(found, name)[0][: len(order)], expected)


def test_votes_equal_the_definition_on_the_whole_image(rng):
    """V = sum of normalised scores times thresholded masks, at points of the whole image."""
    rois, valid, logits, masks = random_rois(rng)
    rois = np.round(rois)
    scores = oracle.softmax(logits[0])
    inside = 1 / (1 + np.exp(masks[0, ..., 0] - masks[0, ..., 1]))
    kept = oracle.nms(rois[0], scores[:, 2], 0.3)[:4]
    size = 28
    voters = Voters(
        boxes=tf.constant(rois),
        frames=tf.constant(rois),
        scores=tf.constant(scores[None, :, 1:], tf.float32),
        masks=tf.constant(inside[None], tf.float32),
    )
    present = tf.ones([1, 4], tf.bool)
    survivors = Kept(tf.constant(rois[:, kept]), tf.ones([1, 4]), tf.fill([1, 4], 1), present)
    settings = PredictConfig(**{**OPTIONS, "mask_size": size})
    boxes, _, labels, votes, valid = vote(
        voters, survivors, tf.constant([[120.0, 120.0]]), settings
    )
    assert valid.numpy().all() and (labels.numpy() == 2).all()
    for d, detection in enumerate(kept):
        voters = [i for i in range(40) if oracle.iou(rois[0, i], rois[0, detection]) >= 0.5]
        weights = scores[voters, 2] / scores[voters, 2].sum()
        frame = np.concatenate([rois[0, voters, :2].min(0), rois[0, voters, 2:].max(0)])
        expected = np.zeros((size, size))
        for weight, i in zip(weights, voters, strict=True):
            expected += weight * (oracle.resample(inside[i], rois[0, i], frame, size) >= 0.4)
        rows, columns = (expected >= 0.4).any(1).nonzero()[0], (expected >= 0.4).any(0).nonzero()[0]
        step = (frame[2:] - frame[:2]) / size
        tight = [
            frame[0] + rows[0] * step[0],
            frame[1] + columns[0] * step[1],
            frame[0] + (rows[-1] + 1) * step[0],
            frame[1] + (columns[-1] + 1) * step[1],
        ]
        np.testing.assert_allclose(boxes[0, d], tight, atol=1e-3)
        again = oracle.resample(expected, frame, tight, size)
        # Isolated points sit on the threshold or on the edge of a mask's box.
        assert np.mean(np.abs(votes[0, d] - again) > 1e-3) < 0.01


def test_a_lone_roi_gives_its_own_mask(rng):
    """One ROI, a disc of logits: the detection is the disc, its box is tight around it."""
    y, x = np.mgrid[:21, :21]
    disc = ((y - 10) ** 2 + (x - 10) ** 2 <= 49).astype(np.float32)
    masks = np.stack([1 - disc, disc], -1)[None, None] * 20
    logits = np.array([[[0.0, 9.0]]], np.float32)
    found = run(
        np.array([[[10.0, 20.0, 52.0, 62.0]]], np.float32), np.ones((1, 1), bool), logits, masks
    )
    np.testing.assert_allclose(found.boxes[0, 0], [16, 26, 46, 56], atol=1.6)
    area = (found.masks[0, 0].numpy() >= 0.4).mean() * 30 * 30
    assert abs(area / (disc.sum() * 4) - 1) < 0.12
    assert found.valid.numpy().sum() == 1


@pytest.mark.parametrize("voting", ["binary", "soft", "none"])
def test_scaling_image_and_rois_scales_the_answer(rng, voting):
    rois, valid, logits, masks = random_rois(rng)
    rois = np.round(rois / 2) * 2
    one = run(rois, valid, logits, masks, voting=voting)
    half = run(rois, valid, logits, masks, scale=2.0, size=(60, 60), voting=voting)
    np.testing.assert_allclose(one.boxes, half.boxes * 2, atol=1e-3)
    np.testing.assert_allclose(one.masks, half.masks, atol=1e-4)


def test_invalid_and_small_rois_take_no_part(rng):
    rois, valid, logits, masks = random_rois(rng)
    alone = run(rois[:, :20], valid[:, :20], logits[:, :20], masks[:, :20])
    valid[:, 20:30] = False
    rois[:, 30:, 2:] = rois[:, 30:, :2] + 1.0
    for found, expected in zip(run(rois, valid, logits, masks), alone, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_roi_at_all_gives_no_detection():
    found = run(
        np.zeros((1, 3, 4), np.float32),
        np.zeros((1, 3), bool),
        np.zeros((1, 3, 3), np.float32),
        np.zeros((1, 3, 9, 9, 2), np.float32),
    )
    assert not found.valid.numpy().any() and not found.boxes.numpy().any()


def test_tighten_without_a_vote_is_empty():
    box, _, seen = tighten(tf.fill([8, 8], 0.3), tf.constant([0.0, 0, 8, 8]), 0.4)
    assert not bool(seen) and not box.numpy().any()
