"""Position-sensitive pooling and the heads: `get_symbol` of `resnet_v1_101_fcis.py`."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
from mxnet import nd

from tests.golden.reference.decisions import note


def ps_roi_pool(maps, rois, k, p, depth):
    """MXNet's operator; maps (B, k k depth, Hf, Wf), rois (R, 5) with the image index first."""
    return nd.contrib.PSROIPooling(
        maps, rois, spatial_scale=0.0625, output_dim=depth, pooled_size=p, group_size=k
    )


def edges_hold(rois, p, rows, columns):
    """Whether float32 bin edges, which MXNet uses, equal the exact ones for every ROI (R, 4)."""
    for roi in rois:
        for low, high, cells in ((roi[0], roi[2], columns), (roi[1], roi[3], rows)):
            start, end = (floor(abs(v) + 0.5) * (1 if v >= 0 else -1) for v in (low, high))
            exact = Fraction(start, 16), max(Fraction(end + 1 - start, 16), Fraction(1, 10)) / p
            s = np.float32(start) * np.float32(0.0625)
            extent = max(np.float32(end + 1) * np.float32(0.0625) - s, np.float32(0.1))
            width = extent / np.float32(p)
            for b in range(p):
                pairs = (
                    (floor(np.float32(b) * width + s), floor(exact[0] + b * exact[1])),
                    (ceil(np.float32(b + 1) * width + s), ceil(exact[0] + (b + 1) * exact[1])),
                )
                if any(min(max(x, 0), cells) != min(max(y, 0), cells) for x, y in pairs):
                    return False
    return True


def heads(score_maps, box_maps, rois, k, p, classes, picked=None):
    """Class logits (R, K), deltas (R, 4), mask logits (R, 2, p, p) outside and inside.

    picked: class of each ROI's mask; by default its most probable foreground class.
    """
    batch = nd.array(np.concatenate([np.zeros((len(rois), 1)), rois], 1))
    note("pooling", np.abs(np.abs(rois) % 1 - 0.5))
    pooled = ps_roi_pool(score_maps, batch, k, p, 2 * classes)
    pairs = nd.reshape(pooled, (len(rois), classes, 2, p, p))
    outside = nd.slice_axis(pairs, axis=2, begin=0, end=1)
    inside = nd.slice_axis(pairs, axis=2, begin=1, end=2)
    larger = nd.where(inside > outside, inside, outside)
    logits = nd.reshape(nd.mean(larger, axis=(2, 3, 4)), (len(rois), classes))
    if picked is None:
        values = logits.asnumpy()[:, 1:]
        note("best class", np.diff(np.sort(values, 1)[:, -2:], axis=1))
        picked = 1 + values.argmax(1)
    chosen = nd.reshape(nd.one_hot(nd.array(picked), classes), (len(rois), classes, 1, 1, 1))
    masks = nd.sum(pairs * chosen, axis=1)
    deltas = nd.mean(ps_roi_pool(box_maps, batch, k, p, 8), axis=(2, 3))
    return logits, nd.slice_axis(deltas, axis=1, begin=4, end=8), masks


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def object_scores(rpn_cls_score):
    """(A, Hf, Wf) probability of an object."""
    values = rpn_cls_score.asnumpy()[0].astype(np.float64)
    half = len(values) // 2
    return 1 / (1 + np.exp(values[:half] - values[half:]))
