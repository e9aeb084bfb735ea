"""Anchors, their targets, and proposals.

`lib/rpn/generate_anchor.py`, `lib/rpn/rpn.py: assign_anchor`, `fcis/operator_py/proposal.py`.
"""

import numpy as np

from tests.golden.reference.boxes import clip, decode, encode, nms, overlaps, sides
from tests.golden.reference.decisions import note


def cell_anchors(scales, ratios=(0.5, 1, 2)):
    table = []
    for ratio in ratios:
        w = np.round(np.sqrt(256 / ratio))
        h = np.round(w * ratio)
        for scale in scales:
            dx, dy = 0.5 * (w * scale - 1), 0.5 * (h * scale - 1)
            table.append([7.5 - dx, 7.5 - dy, 7.5 + dx, 7.5 + dy])
    return np.array(table)


def grid_anchors(cell, rows, columns):
    """(rows * columns * A, 4), anchor fastest."""
    table = [
        anchor + np.array([16 * x, 16 * y, 16 * x, 16 * y])
        for y in range(rows)
        for x in range(columns)
        for anchor in cell
    ]
    return np.array(table)


def rpn_targets(anchors, truth, height, width):
    """Labels (n,), deltas (n, 4) and box weights (n, 4), before any subsampling."""
    labels, deltas = np.full(len(anchors), -1), np.zeros((len(anchors), 4))
    within = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] < width) & (anchors[:, 3] < height)
    inside = np.flatnonzero(within)
    if len(truth) == 0:
        labels[inside] = 0
        return labels, deltas, np.zeros((len(anchors), 4))
    table = overlaps(anchors[inside], truth)
    best = table.max(1)
    note("anchor threshold", np.concatenate([best - 0.3, best - 0.7]))
    labels[inside[best < 0.3]] = 0
    for g in range(len(truth)):
        if table[:, g].max() > 0:
            labels[inside[table[:, g] == table[:, g].max()]] = 1
    labels[inside[best >= 0.7]] = 1
    deltas[inside] = encode(anchors[inside], truth[table.argmax(1)])
    return labels, deltas, np.repeat((labels == 1)[:, None], 4, 1).astype(float)


def proposals(scores, deltas, height, width, cell, *, pre_nms, count, threshold, min_size):
    """Boxes and scores, best first, without the random padding.

    scores (A, Hf, Wf) of being an object; deltas (4A, Hf, Wf).
    """
    rows, columns = height // 16, width // 16  # smaller than the grid of the targets
    anchors = grid_anchors(cell, rows, columns)
    table = deltas[:, :rows, :columns].reshape(len(cell), 4, rows, columns)
    boxes = decode(anchors, table.transpose(2, 3, 0, 1).reshape(-1, 4).astype(np.float64))
    boxes = clip(boxes, height, width)
    scores = scores[:, :rows, :columns].transpose(1, 2, 0).ravel()
    w, h = sides(boxes)
    note("least side", np.concatenate([w - min_size, h - min_size]))
    large = np.flatnonzero((w >= min_size) & (h >= min_size))
    order = large[np.argsort(-scores[large], kind="stable")]
    note("cut of proposals", np.diff(scores[order[pre_nms - 1 : pre_nms + 1]]))
    boxes, scores = boxes[order[:pre_nms]], scores[order[:pre_nms]]
    kept = nms(boxes, scores, threshold)
    note("cut of proposals", np.diff(scores[kept[count - 1 : count + 1]]))
    kept = kept[:count]
    return boxes[kept], scores[kept]
