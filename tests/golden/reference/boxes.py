"""Box arithmetic and suppression: `lib/bbox/bbox_transform.py` and `lib/nms/nms.py`."""

import numpy as np

from tests.golden.reference.decisions import note


def sides(boxes):
    return boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1


def overlaps(boxes, others):
    """IoU (n, m)."""
    table = np.zeros((len(boxes), len(others)))
    for i, a in enumerate(boxes):
        for j, b in enumerate(others):
            w = min(a[2], b[2]) - max(a[0], b[0]) + 1
            h = min(a[3], b[3]) - max(a[1], b[1]) + 1
            if w > 0 and h > 0:
                area = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
                other = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
                table[i, j] = w * h / (area + other - w * h)
    return table


def encode(boxes, truth):
    w, h = sides(boxes)
    gw, gh = sides(truth)
    cx, cy = boxes[:, 0] + 0.5 * (w - 1), boxes[:, 1] + 0.5 * (h - 1)
    gx, gy = truth[:, 0] + 0.5 * (gw - 1), truth[:, 1] + 0.5 * (gh - 1)
    shift = (gx - cx) / (w + 1e-14), (gy - cy) / (h + 1e-14)
    return np.stack([*shift, np.log(gw / w), np.log(gh / h)], 1)


def decode(boxes, deltas):
    w, h = sides(boxes)
    cx = deltas[:, 0] * w + boxes[:, 0] + 0.5 * (w - 1)
    cy = deltas[:, 1] * h + boxes[:, 1] + 0.5 * (h - 1)
    dw, dh = 0.5 * (np.exp(deltas[:, 2]) * w - 1), 0.5 * (np.exp(deltas[:, 3]) * h - 1)
    return np.stack([cx - dw, cy - dh, cx + dw, cy + dh], 1)


def clip(boxes, height, width):
    return np.clip(boxes, 0, np.array([width, height, width, height]) - 1)


def nms(boxes, scores, threshold, at_equality=False):
    """Indices kept, best first."""
    order = np.argsort(-scores, kind="stable")
    table, kept = overlaps(boxes, boxes), []
    # The order of two neighbours matters if one suppresses the other. Two ROIs that round to the
    # same pixels have equal scores, and stand for each other.
    gaps = np.diff(scores[order])
    rivals = (table[order[:-1], order[1:]] > threshold) & (gaps != 0)
    note("order of scores", gaps[rivals])
    for i in order:
        with_kept = table[i, kept]
        note("suppression", with_kept - threshold)
        if not (with_kept >= threshold if at_equality else with_kept > threshold).any():
            kept.append(i)
    return np.array(kept, np.int64)
