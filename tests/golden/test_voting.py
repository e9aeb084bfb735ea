"""Suppression and mask voting, both variants of the released code."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import PredictConfig
from fcis_tf.geometry.paste import paste_masks
from fcis_tf.prediction.voting_released import vote_released
from fcis_tf.structures import Candidates, Heads, ImageInfo
from tests.golden import layout
from tests.golden.arrays import cases, unpack


@pytest.mark.parametrize("processor", ["gpu", "cpu"])
@pytest.mark.parametrize("case", cases("voting", "factor"), ids=lambda c: f"x{c['factor']}")
def test_voting(case, processor, close):
    inside = case["masks"].astype(np.float64)
    logit = np.log(inside / (1 - inside))
    size, factor = case["size"].astype(np.float64), float(case["factor"])
    candidates = Candidates(
        tf.constant(layout.boxes(case["rois"])[None]),
        tf.ones([1, len(case["rois"])], tf.bool),
        Heads(
            class_logits=tf.constant(np.log(case["prob"])[None]),
            box_deltas=None,
            mask_logits=tf.constant(np.stack([0 * logit, logit], -1)[None], tf.float32),
        ),
    )
    info = ImageInfo(
        size=tf.constant(size[None], tf.float32),
        scale=tf.constant([factor], tf.float32),
        original_size=None,
    )
    settings = PredictConfig(
        voting="released" if processor == "gpu" else "released_cpu",
        min_size=2,
        nms_threshold=0.3,
        max_detections=12,
        score_threshold=1e-3,
        vote_iou=0.5,
        mask_threshold=0.4,
    )
    found = vote_released(candidates, info, settings)
    height, width = (int(side) for side in np.rint(size / factor))
    expected = {
        name: case[f"{processor}_{name}"] for name in ("class", "score", "box", "mask", "picture")
    }
    order = np.argsort(-expected["score"])
    valid = found.valid[0].numpy()
    np.testing.assert_array_equal(found.labels[0][valid], expected["class"][order])
    close("voting, scores", found.scores[0][valid], expected["score"][order])
    close("voting, boxes", found.boxes[0][valid], layout.boxes(expected["box"][order]))
    close("voting, masks", found.masks[0][valid], expected["mask"][order])
    pictures = unpack(expected["picture"], (len(order), height, width))[order]
    pasted = paste_masks(
        found.masks[0].numpy()[valid], found.boxes[0].numpy()[valid], height, width, 0.4
    )
    # A value of exactly the threshold may fall to either side.
    assert (pasted != pictures).sum() <= 1e-4 * pictures.sum()
