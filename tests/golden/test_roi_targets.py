"""Classes, box deltas and masks that the ROIs are trained towards."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.data import resize_released
from fcis_tf.model.fcis import BOX_STD
from fcis_tf.structures import Proposals
from fcis_tf.training.targets import roi_targets
from tests.golden import layout
from tests.golden.arrays import cases, unpack


@pytest.mark.parametrize("case", cases("roi_targets", "p"), ids=lambda c: f"x{c['factor']}")
def test_roi_targets(case, close):
    height, width = (int(side) for side in case["original"])
    masks = unpack(case["masks"], (4, height, width))
    example = resize_released.resize(
        {
            "image": tf.zeros([height, width, 3], tf.uint8),
            "boxes": tf.constant(layout.boxes(case["boxes"])),
            "masks": tf.constant(masks),
        },
        tf.constant(float(case["factor"]), tf.float64),
    )
    np.testing.assert_array_equal(example["boxes"], layout.boxes(case["truth"]))
    close("resized masks", example["masks"][1], case["resized"])
    proposed = layout.boxes(case["proposed"])[None]
    found = roi_targets(
        Proposals(proposed, np.zeros(proposed.shape[:2]), np.ones(proposed.shape[:2], bool)),
        {
            "boxes": example["boxes"][None],
            "labels": tf.cast(case["classes"][None], tf.int32),
            "masks": example["masks"][None],
            "seed": tf.zeros([1, 2], tf.int32),
        },
        BOX_STD,
        TrainConfig(sampling="ohem", roi_background_iou=float(case["low"])),
        pooled_size=int(case["p"]),
    )
    # The reference puts foreground first and leaves out what is neither.
    ours = {tuple(np.round(roi, 3)): i for i, roi in enumerate(found.rois[0].numpy())}
    order = [ours[tuple(np.round(roi, 3))] for roi in layout.boxes(case["rois"])]
    labels = found.labels[0].numpy()
    np.testing.assert_array_equal(labels[order], case["labels"])
    assert (np.delete(labels, order) == -1).all()
    positive = case["labels"] > 0
    assert positive.sum() > 10
    deltas = found.deltas[0].numpy()[order]
    close("ROI box targets", deltas[positive], layout.deltas(case["deltas"])[positive])
    targets = found.masks[0].numpy()[order][positive]
    np.testing.assert_array_equal(targets, case["targets"][positive])
