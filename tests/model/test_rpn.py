import numpy as np
import tensorflow as tf

from fcis_tf.model.rpn import RpnHead, propose
from fcis_tf.structures import Rpn
from tests import oracle


def random_rpn(rng, anchors, images=2):
    logits = rng.normal(size=(images, anchors, 2)).astype(np.float32)
    deltas = rng.normal(scale=0.2, size=(images, anchors, 4)).astype(np.float32)
    return Rpn(tf.constant(logits), tf.constant(deltas))


def test_proposals_equal_the_oracle(rng):
    anchors = oracle.random_boxes(rng, (60,))
    rpn, size = random_rpn(rng, 60), np.array([[100.0, 90.0], [70.0, 100.0]], np.float32)
    found = propose(
        rpn, tf.constant(anchors), size, count=12, pre_nms=40, nms_threshold=0.5, min_size=4.0
    )
    for i in range(2):
        score = oracle.softmax(rpn.logits[i].numpy())[:, 1]
        best = np.argsort(-score)[:40]
        delta, anchor = rpn.deltas[i].numpy()[best], anchors[best]
        side = anchor[:, 2:] - anchor[:, :2]
        center = (anchor[:, :2] + anchor[:, 2:]) / 2 + delta[:, :2] * side
        half = np.exp(delta[:, 2:]) * side / 2
        low = np.clip(center - half, 0, size[i])
        high = np.clip(center + half, 0, size[i])
        large = ((high - low) >= 4.0).all(1)
        boxes, score = np.concatenate([low, high], 1)[large], score[best][large]
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
