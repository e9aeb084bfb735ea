"""Heads, their losses with gradients, and the choice of hard examples."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.model.heads import read_heads
from fcis_tf.structures import Maps, RoiTargets
from fcis_tf.training.losses import keep_hardest, roi_losses
from tests.golden import layout
from tests.golden.arrays import cases


@pytest.mark.parametrize("case", cases("heads", "k"), ids=lambda c: f"k{c['k']}-p{c['p']}")
def test_heads_losses_and_hard_examples(case, close):
    k, p, classes = int(case["k"]), int(case["p"]), case["logits"].shape[1]
    score_order, box_order = layout.score_channels(k, classes), layout.box_channels(k)
    scores = tf.constant(layout.nhwc(case["score_maps"][:, score_order]))
    boxes = tf.constant(layout.nhwc(case["box_maps"][:, box_order]))
    rois = tf.constant(layout.boxes(case["rois"])[None])
    labels = tf.cast(case["labels"][None], tf.int32)
    geometry = {"group_size": k, "pooled_size": p, "stride": 16}
    targets = RoiTargets(
        rois,
        labels,
        tf.constant(layout.deltas(case["deltas"]).astype(np.float32)[None]),
        tf.cast(tf.maximum(case["targets"][None], 0), tf.int32),
    )
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([scores, boxes])
        heads = read_heads(Maps(None, scores, boxes), rois, labels, **geometry)
        kept = keep_hardest(heads, targets, count=12, mask_weight=10.0)
        losses = roi_losses(heads, kept, batch_size=12, mask_weight=10.0)
    close("class logits", heads.class_logits[0], case["logits"])
    close("box deltas", heads.box_deltas[0], layout.deltas(case["box"]))
    inside = tf.nn.softmax(heads.mask_logits)[0, ..., 1]
    close("mask probabilities", inside, case["inside"])
    best = read_heads(Maps(None, scores, boxes), rois, **geometry)
    inside = tf.nn.softmax(best.mask_logits)[0, ..., 1]
    close("mask probabilities of the best class", inside, case["inside_best"])
    np.testing.assert_array_equal(kept.labels[0], case["carried"])
    found = [losses[f"roi_{name}"] for name in ("class", "mask", "box")]
    close("ROI losses", found, case["losses"])
    zero = tf.UnconnectedGradients.ZERO
    for name in ("class", "mask", "box"):
        by_scores, by_boxes = tape.gradient(
            losses[f"roi_{name}"], [scores, boxes], unconnected_gradients=zero
        )
        expected = layout.nhwc(case[f"{name}_score_gradient"][:, score_order])
        close(f"ROI losses, gradient of {name}", by_scores, expected)
        expected = layout.nhwc(case[f"{name}_box_gradient"][:, box_order])
        close(f"ROI losses, gradient of {name}", by_boxes, expected)
