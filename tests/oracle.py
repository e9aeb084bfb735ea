"""Slow NumPy references, written from the specification and sharing no code with the package."""

from fractions import Fraction
from math import ceil, floor

import numpy as np


def iou(a, b):
    """IoU of two half-open boxes (y0, x0, y1, x1)."""
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if height <= 0 or width <= 0:
        return 0.0
    inter = height * width
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def ps_roi_pool(maps, rois, image_index, k, p, stride):
    """Spec section 4.2 for (y0, x0, y1, x1) half-open ROIs, in exact rational arithmetic."""
    _, rows, columns, channels = maps.shape
    depth = channels // (k * k)
    out = np.zeros((len(rois), p, p, depth))

    def nearest(value):  # half away from zero
        return floor(abs(value) + 0.5) * (1 if value >= 0 else -1)

    def edges(low, high, limit):
        start, end = Fraction(nearest(low), stride), Fraction(nearest(high), stride)
        bin_size = max(end - start, Fraction(1, 10)) / p
        return [
            (
                min(max(floor(start + i * bin_size), 0), limit),
                min(max(ceil(start + (i + 1) * bin_size), 0), limit),
            )
            for i in range(p)
        ]

    for r, (y0, x0, y1, x1) in enumerate(rois):
        for q, (top, bottom) in enumerate(edges(y0, y1, rows)):
            for c, (left, right) in enumerate(edges(x0, x1, columns)):
                if bottom <= top or right <= left:
                    continue
                group = (q * k // p) * k + c * k // p
                window = maps[image_index[r], top:bottom, left:right]
                out[r, q, c] = window[..., group * depth : (group + 1) * depth].mean((0, 1))
    return out


def nms(boxes, scores, threshold):
    """Indices kept by greedy suppression, best first."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def sample(mask, box, y, x):
    """Value at point (y, x) of a mask that spans a box: bilinear, edge-clamped, 0 outside."""
    if not (box[0] <= y < box[2] and box[1] <= x < box[3]):
        return 0.0
    rows, columns = mask.shape
    v = np.clip((y - box[0]) / (box[2] - box[0]) * rows - 0.5, 0, rows - 1)
    u = np.clip((x - box[1]) / (box[3] - box[1]) * columns - 0.5, 0, columns - 1)
    top, left = (
        int(min(v, rows - 2)) if rows > 1 else 0,
        int(min(u, columns - 2)) if columns > 1 else 0,
    )
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    fy, fx = v - top, u - left
    upper = mask[top, left] * (1 - fx) + mask[top, right] * fx
    lower = mask[bottom, left] * (1 - fx) + mask[bottom, right] * fx
    return upper * (1 - fy) + lower * fy


def resample(mask, source, target, size):
    """A mask in the frame of `source`, sampled at the cell centres of `target`."""
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            y = target[0] + (i + 0.5) * (target[2] - target[0]) / size
            x = target[1] + (j + 0.5) * (target[3] - target[1]) / size
            out[i, j] = sample(mask, source, y, x)
    return out


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def smooth_l1(x, sigma):
    x = abs(x)
    return 0.5 * sigma**2 * x**2 if x <= 1 / sigma**2 else x - 0.5 / sigma**2


def random_boxes(rng, shape, low=0.0, high=100.0, least=2.0):
    """Boxes (*shape, 4) with sides of at least `least` inside [low, high]."""
    start = rng.uniform(low, high - least - 1, (*shape, 2))
    end = rng.uniform(start + least, high)
    return np.concatenate([start, end], -1).astype(np.float32)
