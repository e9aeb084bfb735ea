import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.structures import Proposals
from fcis_tf.training.targets import anchor_targets, roi_targets
from tests import oracle

STD = np.array([0.2, 0.2, 0.5, 0.5], np.float32)
SETTINGS = TrainConfig(
    rpn_batch=64, sampling="random", roi_batch=32, roi_foreground=0.25, roi_background_iou=0.1
)


def changed(**values):
    return SETTINGS.model_copy(update=values)


def label_rois(proposals, batch, settings=SETTINGS):
    return roi_targets(proposals, batch, STD, settings, pooled_size=9)


def make_batch(rng, images=2, slots=5, present=4):
    boxes = np.round(oracle.random_boxes(rng, (images, slots), high=100.0, least=15.0))
    labels = rng.integers(1, 4, (images, slots)).astype(np.int32)
    labels[:, present:] = -1
    boxes[:, present:] = 0
    y, x = np.mgrid[:28, :28]
    disc = 255 * ((y - 13.5) ** 2 + (x - 13.5) ** 2 < 14**2)
    return {
        "image_size": tf.constant([[100.0, 100.0]] * images),
        "boxes": tf.constant(boxes),
        "labels": tf.constant(labels),
        "masks": tf.constant(np.tile(disc, (images, slots, 1, 1)), tf.uint8),
        "seed": tf.constant([[i, 9] for i in range(images)]),
    }


def near(rng, boxes, count):
    """Proposals scattered around boxes and elsewhere."""
    jitter = rng.normal(scale=6.0, size=(*boxes.shape[:1], count, boxes.shape[1], 4))
    around = (boxes[:, None] + jitter).reshape(boxes.shape[0], -1, 4)
    elsewhere = oracle.random_boxes(rng, (boxes.shape[0], 30), high=100.0)
    found = np.concatenate([around, elsewhere], 1).clip(0, 100)
    found[..., 2:] = np.maximum(found[..., 2:], found[..., :2] + 2)
    return found.astype(np.float32)


def test_anchor_labels_and_deltas_follow_the_released_rules(rng):
    batch = make_batch(rng)
    anchors = oracle.random_boxes(rng, (300,), low=-20.0, high=120.0, least=10.0)
    # A quota of all anchors: nothing is left to chance.
    found = anchor_targets(anchors, batch, changed(rpn_batch=1200))
    for i in range(2):
        truth = batch["boxes"][i].numpy()[:4]
        table = np.array([[oracle.iou(a, g) for g in truth] for a in anchors])
        within = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2:] <= 100).all(1)
        table[~within] = 0
        expected = np.where(table.max(1) < 0.3, 0, -1)
        expected[((table == table.max(0)) & (table > 0)).any(1)] = 1
        expected[table.max(1) >= 0.7] = 1
        expected[~within] = -1
        np.testing.assert_array_equal(found.labels[i], expected)
        for a in np.flatnonzero(expected == 1):
            g, box = truth[table[a].argmax()], anchors[a]
            size, target = box[2:] - box[:2], g[2:] - g[:2]
            shift = ((g[:2] + g[2:]) - (box[:2] + box[2:])) / 2 / size
            np.testing.assert_allclose(
                found.deltas[i, a], [*shift, *np.log(target / size)], atol=1e-4
            )


def test_anchor_sampling_keeps_its_quotas(rng):
    batch = make_batch(rng)
    anchors = near(rng, batch["boxes"].numpy()[:, :4], 100)[0]
    found = anchor_targets(anchors, batch, SETTINGS).labels.numpy()
    assert ((found == 1).sum(1) <= 32).all() and (found[0] == 1).sum() == 32
    assert ((found >= 0).sum(1) <= 64).all()


def test_targets_do_not_depend_on_the_batch(rng):
    """An image gets the same random choice alone and in a batch."""
    batch = make_batch(rng)
    second = {name: value[1:] for name, value in batch.items()}
    anchors = near(rng, batch["boxes"].numpy()[:, :4], 100)[0]
    together, alone = (anchor_targets(anchors, b, SETTINGS) for b in (batch, second))
    np.testing.assert_array_equal(together.labels[1], alone.labels[0])


def test_an_image_without_instances_has_background_only(rng):
    batch = make_batch(rng, present=0)
    anchors = oracle.random_boxes(rng, (100,), high=100.0)
    labels = anchor_targets(anchors, batch, SETTINGS).labels.numpy()
    assert set(np.unique(labels)) == {-1, 0}
    proposals = near(rng, np.full((2, 1, 4), [10, 10, 50, 50.0]), 20)
    boxes = tf.constant(proposals)
    count = boxes.shape[1]
    proposals = Proposals(boxes, tf.zeros([2, count]), tf.ones([2, count], tf.bool))
    found = label_rois(proposals, batch, changed(roi_background_iou=0.0))
    np.testing.assert_array_equal(found.labels, np.zeros((2, 32)))
    assert not found.masks.numpy().any() and not found.deltas.numpy().any()


@pytest.mark.parametrize("sampling", ["random", "ohem"])
def test_roi_targets_follow_the_released_rules(rng, sampling):
    batch = make_batch(rng)
    truth = batch["boxes"].numpy()[:, :4]
    boxes = near(rng, truth, 8)
    valid = rng.uniform(size=boxes.shape[:2]) < 0.9
    proposals = Proposals(tf.constant(boxes), tf.zeros(valid.shape), tf.constant(valid))
    found = label_rois(proposals, batch, changed(sampling=sampling))
    labels = found.labels.numpy()
    if sampling == "random":
        np.testing.assert_array_equal((labels > 0).sum(1), [8, 8])
        assert (labels >= 0).sum(1).max() <= 32
        # Each ROI is a candidate once at most: nothing is drawn twice.
        for i in range(2):
            chosen = found.rois[i].numpy()[labels[i] >= 0]
            assert len(np.unique(chosen, axis=0)) == len(chosen)
    else:
        assert labels.shape[1] == boxes.shape[1] + 5
        np.testing.assert_array_equal(labels[:, : boxes.shape[1]][~valid], -1)
        np.testing.assert_array_equal(labels[:, -1], -1)
        np.testing.assert_array_equal(labels[:, -5:-1], batch["labels"][:, :4])
    for i in range(2):
        for s in np.flatnonzero(labels[i] >= 0):
            roi = found.rois[i, s].numpy()
            overlap = [oracle.iou(roi, g) for g in truth[i]]
            best = int(np.argmax(overlap))
            if labels[i, s] == 0:
                assert 0.1 <= max(overlap) < 0.5
                continue
            assert max(overlap) >= 0.5 and labels[i, s] == batch["labels"][i, best]
            g, size = truth[i][best], roi[2:] - roi[:2]
            shift = ((g[:2] + g[2:]) - (roi[:2] + roi[2:])) / 2 / size
            ratio = np.log((g[2:] - g[:2]) / size)
            np.testing.assert_allclose(found.deltas[i, s], [*shift, *ratio] / STD, atol=1e-3)
            mask = batch["masks"][i, best].numpy() / 255.0
            expected = oracle.resample(mask, g, np.round(roi), 9) >= 0.4
            assert (found.masks[i, s].numpy() != expected).mean() < 0.02


def top_up_case(rng, batch_size):
    """One instance; 6 proposals on it, 5 on its edge, 9 far away; the instance joins them."""
    box = np.array([20.0, 20, 60, 60], np.float32)
    on = box + rng.uniform(-2, 2, (6, 4))
    edge = box + np.array([0, 25.0, 0, 25]) + rng.uniform(-2, 2, (5, 4))
    far = np.array([70.0, 70, 90, 90]) + rng.uniform(-2, 2, (9, 4))
    boxes = np.concatenate([on, edge, far])[None].astype(np.float32)
    batch = make_batch(rng, images=1, slots=2, present=1) | {
        "boxes": tf.constant([[box, [0] * 4]], tf.float32),
        "labels": tf.constant([[2, -1]]),
    }
    proposals = Proposals(boxes, np.zeros([1, 20], np.float32), np.ones([1, 20], bool))
    return [
        label_rois(
            proposals,
            batch | {"seed": tf.constant([[draw, 1]])},
            changed(roi_batch=batch_size, roi_top_up=True),
        )
        for draw in range(40)
    ]


def test_top_up_fills_the_sample_with_all_but_the_drawn_positives(rng):
    """Of 7 positives 4 are drawn, all 5 background ROIs, and 7 more of the 17 that are left."""
    kinds = {}
    for found in top_up_case(rng, 16):
        labels = found.labels[0].numpy()
        assert (labels[:4] == 2).all() and (labels[4:] == 0).all() and len(labels) == 16
        rows = [tuple(row) for row in found.rois[0].numpy()]
        drawn, filled = set(rows[:4]), rows[9:]
        assert len(drawn) == 4 and not drawn & set(filled)
        assert len(set(filled)) == 7, "one round takes no candidate twice"
        assert not found.deltas[0].numpy()[9:].any() and not found.masks[0].numpy()[9:].any()
        for row in filled:
            kinds[row] = kinds.get(row, 0) + 1
    # Everything that is left takes its turn, unsampled positives and drawn background too.
    assert len(kinds) == 21


def test_top_up_goes_round_when_there_are_fewer_candidates_than_places(rng):
    """8 positives of 32 allowed, 7 there; 5 background; 20 places are left for 14 candidates."""
    for found in top_up_case(rng, 32)[:5]:
        labels = found.labels[0].numpy()
        assert (labels == 2).sum() == 7 and (labels == 0).sum() == 25
        rows = [tuple(row) for row in found.rois[0].numpy()[12:]]
        assert sorted(rows.count(row) for row in set(rows)) == [1] * 8 + [2] * 6
