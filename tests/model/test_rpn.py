import numpy as np
import tensorflow as tf

from fcis_tf.geometry.anchors import cell_anchors, grid_anchors
from fcis_tf.model.rpn import RpnHead, propose
from fcis_tf.structures import Rpn
from tests import oracle


def random_rpn(rng, anchors, images=2):
    logits = rng.normal(size=(images, anchors, 2)).astype(np.float32)
    deltas = rng.normal(scale=0.2, size=(images, anchors, 4)).astype(np.float32)
    return Rpn(tf.constant(logits), tf.constant(deltas))


def test_proposals_equal_the_oracle(rng):
    anchors = oracle.random_boxes(rng, (60,), least=2.0)
    anchors[::4, 2:] = anchors[::4, :2] + 2.5  # some that are too small
    rpn, size = random_rpn(rng, 60), np.array([[100.0, 90.0], [70.0, 100.0]], np.float32)
    found = propose(
        rpn, tf.constant(anchors), size, count=12, pre_nms=40, nms_threshold=0.5, min_size=4.0
    )
    for i in range(2):
        score = oracle.softmax(rpn.logits[i].numpy())[:, 1]
        delta, anchor = rpn.deltas[i].numpy(), anchors
        side = anchor[:, 2:] - anchor[:, :2]
        center = (anchor[:, :2] + anchor[:, 2:]) / 2 + delta[:, :2] * side
        half = np.exp(delta[:, 2:]) * side / 2
        low = np.clip(center - half, 0, size[i])
        high = np.clip(center + half, 0, size[i])
        large = np.flatnonzero(((high - low) >= 4.0).all(1))
        # Boxes that are too small do not take the places of others before the suppression.
        best = large[np.argsort(-score[large])][:40]
        boxes, score = np.concatenate([low, high], 1)[best], score[best]
        kept = oracle.nms(boxes, score, 0.5)[:12]
        assert found.valid[i].numpy().sum() == len(kept)
        np.testing.assert_allclose(found.boxes[i][: len(kept)], boxes[kept], atol=1e-3)
        np.testing.assert_allclose(found.scores[i][: len(kept)], score[kept], atol=1e-6)


def test_an_image_without_a_survivor_gets_the_whole_image(rng):
    rpn, size = random_rpn(rng, 5), tf.constant([[30.0, 40.0], [50.0, 60.0]])
    anchors = tf.constant(oracle.random_boxes(rng, (5,)))
    found = propose(rpn, anchors, size, count=4, pre_nms=10, nms_threshold=0.7, min_size=1000.0)
    np.testing.assert_array_equal(found.valid, [[True, False, False, False]] * 2)
    np.testing.assert_array_equal(found.boxes[:, 0], [[0, 0, 30, 40], [0, 0, 50, 60]])


def test_no_gradient_flows_through_proposals(rng):
    rpn = random_rpn(rng, 20)
    with tf.GradientTape() as tape:
        tape.watch(rpn)
        found = propose(
            rpn,
            tf.constant(oracle.random_boxes(rng, (20,))),
            tf.constant([[100.0, 100.0]] * 2),
            count=5,
            pre_nms=10,
            nms_threshold=0.7,
            min_size=1.0,
        )
        total = tf.reduce_sum(found.boxes) + tf.reduce_sum(found.scores)
    assert tape.gradient(total, [rpn.logits, rpn.deltas]) == [None, None]


def test_head_layout_is_backgrounds_then_objects(rng):
    """Score channel a is the background of anchor a, a + A its object; box channel is 4 a + j."""
    head = RpnHead(3, channels=8, init="he", dtype="float32")
    conv4 = rng.normal(size=(1, 2, 4, 6)).astype(np.float32)
    found = head(conv4)
    shared = head.shared(conv4)
    scores, boxes = head.score(shared).numpy(), head.box(shared).numpy()
    for y in range(2):
        for x in range(4):
            for a in range(3):
                row = (y * 4 + x) * 3 + a
                expected = [scores[0, y, x, a], scores[0, y, x, 3 + a]]
                np.testing.assert_allclose(found.logits[0, row], expected)
                np.testing.assert_allclose(found.deltas[0, row], boxes[0, y, x, 4 * a : 4 * a + 4])


def test_the_released_grid_leaves_out_cells_that_the_image_does_not_fill(rng):
    anchors = grid_anchors(cell_anchors([16.0], [1.0], 16), 4, 5, 16)
    rpn = Rpn(tf.constant(rng.normal(size=(2, 20, 2)), tf.float32), tf.zeros([2, 20, 4]))
    size = tf.constant([[64.0, 80.0], [63.0, 79.0]])  # 4 x 5 cells, and 3 x 4 whole ones
    common = {"count": 20, "pre_nms": 20, "nms_threshold": 0.7, "min_size": 1.0}
    for stride, expected in ((None, [20, 20]), (16, [20, 12])):
        found = propose(rpn, anchors, size, stride=stride, **common)
        np.testing.assert_array_equal(found.valid.numpy().sum(1), expected)
    assert found.boxes[1].numpy()[found.valid[1]].max(0).tolist()[2:] == [48, 64]
