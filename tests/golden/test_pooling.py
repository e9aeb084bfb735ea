"""Position-sensitive pooling against MXNet's operator."""

import pytest
import tensorflow as tf

from fcis_tf.ops.ps_assembly import ps_roi_pool
from tests.golden import layout
from tests.golden.arrays import cases


@pytest.mark.parametrize("case", cases("ps_roi_pool", "k"), ids=lambda c: f"k{c['k']}-p{c['p']}")
def test_ps_roi_pool(case, close):
    k, p, maps = int(case["k"]), int(case["p"]), case["maps"]
    depth = maps.shape[1] // k**2
    order = [(d * k + y) * k + x for y in range(k) for x in range(k) for d in range(depth)]
    rois = layout.boxes(case["rois"][:, 1:])
    index = tf.cast(case["rois"][:, 0], tf.int32)
    ours = tf.constant(layout.nhwc(maps[:, order]))
    with tf.GradientTape() as tape:
        tape.watch(ours)
        found = ps_roi_pool(ours, rois, index, group_size=k, pooled_size=p, stride=16)
    close("PS-ROI pooling", found, layout.nhwc(case["output"]))
    gradient = tape.gradient(found, ours, layout.nhwc(case["upstream"]))
    close("PS-ROI pooling, gradient", gradient, layout.nhwc(case["gradient"][:, order]))
