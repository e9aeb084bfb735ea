"""Anchors, RPN targets and losses, and proposals."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.geometry.anchors import cell_anchors, grid_anchors
from fcis_tf.model.rpn import propose
from fcis_tf.structures import AnchorTargets, Rpn
from fcis_tf.training.losses import rpn_losses
from fcis_tf.training.targets import anchor_targets
from tests.golden import layout
from tests.golden.arrays import RATIOS, SIZES, cases, golden


def test_anchors(close):
    arrays = golden("rpn")
    for name, sizes in (("coco", (64, 128, 256, 512)), ("voc", (128, 256, 512))):
        found = grid_anchors(cell_anchors(sizes, RATIOS, 16), 3, 2, 16)
        close("anchors", found, layout.boxes(arrays[name]))


@pytest.mark.parametrize("case", cases("rpn", "truth"), ids=lambda c: f"{len(c['truth'])} objects")
def test_rpn_targets_and_losses(case, close):
    count = len(case["truth"])
    anchors = grid_anchors(cell_anchors(SIZES, RATIOS, 16), 6, 8, 16)
    batch = {
        "image_size": tf.constant([[96.0, 128.0]]),
        "boxes": tf.constant(layout.boxes(case["truth"])[None]),
        "labels": tf.ones([1, count], tf.int32),
        "seed": tf.zeros([1, 2], tf.int32),
    }
    targets = anchor_targets(anchors, batch, TrainConfig(rpn_batch=4096))
    np.testing.assert_array_equal(targets.labels[0], case["labels"])
    positive = case["labels"] == 1
    expected = layout.deltas(case["deltas"])[positive]
    close("RPN targets", targets.deltas[0][positive], expected)

    logits, deltas = (tf.constant(x) for x in layout.rpn_outputs(case["scores"], case["boxes"]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([logits, deltas])
        losses = rpn_losses(
            Rpn(logits, deltas), AnchorTargets(targets.labels, targets.deltas), batch_size=256
        )
    close("RPN losses", [losses["rpn_class"], losses["rpn_box"]], case["losses"])
    expected = layout.rpn_outputs(case["scores_gradient"], case["boxes_gradient"])
    close("RPN losses, gradients", tape.gradient(losses["rpn_class"], logits), expected[0])
    close("RPN losses, gradients", tape.gradient(losses["rpn_box"], deltas), expected[1])


@pytest.mark.parametrize("case", cases("proposals", "size"), ids=lambda c: str(c["size"]))
def test_proposals(case, close):
    logits, deltas = layout.rpn_outputs(case["scores"], case["deltas"])
    rows, columns = case["scores"].shape[2:]
    found = propose(
        Rpn(tf.constant(logits), tf.constant(deltas)),
        grid_anchors(cell_anchors(SIZES, RATIOS, 16), rows, columns, 16),
        tf.cast(case["size"][None], tf.float32),
        count=40,
        pre_nms=150,
        nms_threshold=0.7,
        min_size=12,
        stride=16,
    )
    valid = found.valid[0].numpy()
    close("proposals", found.boxes[0][valid], layout.boxes(case["proposals"]))
    close("proposals, scores", found.scores[0][valid], case["probability"])
