"""ROIs with their targets, and the choice of hard examples.

`fcis/operator_py/proposal_annotator.py: sample_rois`, `lib/mask/mask_transform.py: get_gt_masks`
and `intersect_box_mask`, `fcis/operator_py/box_annotator_ohem.py`.
"""

import cv2
import numpy as np

from tests.golden.reference.boxes import clip, encode, overlaps
from tests.golden.reference.decisions import note, rint

STD = np.array([0.2, 0.2, 0.5, 0.5])  # of the box deltas


def resized_truth(boxes, masks, factor, height, width):
    """Boxes in whole network pixels, and masks (G, H, W) that stay fractional."""
    boxes = clip(np.rint(boxes * factor), height, width)
    size = (width, height)
    masks = [cv2.resize(m.astype(np.float64), size, interpolation=cv2.INTER_LINEAR) for m in masks]
    return boxes, np.array(masks).reshape(len(boxes), height, width)


def mask_target(roi, box, mask, size):
    """(size, size) 0 or 1."""
    roi, box = rint(roi).astype(int), rint(box).astype(int)
    canvas = np.zeros((roi[3] - roi[1] + 1, roi[2] - roi[0] + 1))
    x1, y1 = max(roi[0], box[0]), max(roi[1], box[1])
    x2, y2 = min(roi[2], box[2]), min(roi[3], box[3])
    if x2 < x1 or y2 < y1:
        return np.zeros((size, size), int)
    canvas[y1 - roi[1] : y2 - roi[1] + 1, x1 - roi[0] : x2 - roi[0] + 1] = mask[
        y1 : y2 + 1, x1 : x2 + 1
    ]
    resized = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_LINEAR)
    note("mask target", resized - 0.4)
    return (resized >= 0.4).astype(int)


def label_all_rois(proposed, boxes, classes, masks, *, low, size):
    """All candidates, foreground first: rois, labels, box deltas / STD, mask targets."""
    rois = np.concatenate([proposed, boxes])
    table = overlaps(rois, boxes)
    best, which = table.max(1), table.argmax(1)
    note("roi threshold", np.concatenate([best - 0.5, best - low]) if low else best - 0.5)
    foreground = np.flatnonzero(best >= 0.5)
    background = np.flatnonzero((best < 0.5) & (best >= low))
    keep = np.concatenate([foreground, background])
    labels = np.where(best[keep] >= 0.5, np.asarray(classes)[which[keep]], 0)
    deltas = np.zeros((len(keep), 4))
    targets = np.full((len(keep), size, size), -1)
    for n, i in enumerate(foreground):
        deltas[n] = encode(rois[i : i + 1], boxes[which[i]][None])[0] / STD
        targets[n] = mask_target(rois[i], boxes[which[i]], masks[which[i]], size)
    return rois[keep], labels, deltas, targets


def hardest(prob, mask_prob, box_deltas, labels, deltas, targets, count, mask_weight=10.0):
    """Which ROIs carry a loss: the `count` of largest weighted loss."""
    losses = []
    for r, label in enumerate(labels):
        loss = -np.log(prob[r, label] + 1e-14)
        if label > 0:
            right = np.where(targets[r] == 1, mask_prob[r], 1 - mask_prob[r])
            loss += mask_weight * np.mean(-np.log(right + 2e-14))
            loss += smooth_l1(box_deltas[r] - deltas[r], 1).sum()
        losses.append(loss)
    order = np.argsort(-np.array(losses), kind="stable")
    if len(order) > count:
        note("hard example", np.diff(np.array(losses)[order[count - 1 : count + 1]]))
    keep = np.zeros(len(labels), bool)
    keep[order[:count]] = True
    return keep


def smooth_l1(x, sigma):
    x = np.abs(x)
    return np.where(x <= 1 / sigma**2, 0.5 * (sigma * x) ** 2, x - 0.5 / sigma**2)
