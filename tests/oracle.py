"""Slow NumPy references that share no code with the package."""

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


def bin_edges(low, high, cells, p, stride):
    """The half-open cell range of each bin of an axis (PSROIPooling), in rational arithmetic."""

    def nearest(value):  # half away from zero, NaN to 0, at most a million pixels away
        value = 0.0 if np.isnan(value) else float(np.clip(value, -1e6, 1e6))
        return floor(abs(value) + 0.5) * (1 if value >= 0 else -1)

    start, end = Fraction(nearest(low), stride), Fraction(nearest(high), stride)
    bin_size = max(end - start, Fraction(1, 10)) / p
    return [
        (
            min(max(floor(start + i * bin_size), 0), cells),
            min(max(ceil(start + (i + 1) * bin_size), 0), cells),
        )
        for i in range(p)
    ]


def bins(rois, rows, columns, k, p, stride):
    """All that have cells: (ROI, (row, column) of the bin, its cells as slices, position group)."""
    for r, (y0, x0, y1, x1) in enumerate(rois):
        across = bin_edges(x0, x1, columns, p, stride)
        for q, (top, bottom) in enumerate(bin_edges(y0, y1, rows, p, stride)):
            for c, (left, right) in enumerate(across):
                if bottom > top and right > left:
                    group = (q * k // p) * k + c * k // p
                    yield r, (q, c), (slice(top, bottom), slice(left, right)), group


def ps_roi_pool(maps, rois, image_index, k, p, stride):
    """Means of the bins (R, p, p, D) of half-open ROIs (y0, x0, y1, x1), as PSROIPooling."""
    _, rows, columns, channels = maps.shape
    depth = channels // (k * k)
    out = np.zeros((len(rois), p, p, depth))
    for r, (q, c), (y, x), group in bins(rois, rows, columns, k, p, stride):
        window = maps[image_index[r], y, x, group * depth : (group + 1) * depth]
        out[r, q, c] = window.mean((0, 1))
    return out


def ps_assemble(maps, rois, image_index, labels, k, p, stride):
    """Class logits (R, K), mask logits (R, p, p, 2) and their labels (section 2.2 of the paper)."""
    pooled = ps_roi_pool(maps, rois, image_index, k, p, stride)
    pooled = pooled.reshape(len(rois), p, p, 2, maps.shape[-1] // (2 * k * k))
    logits = pooled.max(3).mean((1, 2))
    chosen = [
        label if label >= 0 else 1 + row[1:].argmax()
        for label, row in zip(labels, logits, strict=True)
    ]
    masks = [one[..., label] for one, label in zip(pooled, chosen, strict=True)]
    return logits, np.reshape(masks, (len(rois), p, p, 2)), chosen


def ps_assemble_gradient(maps, rois, image_index, labels, of_logits, of_masks, k, p, stride):
    """Of ``sum(of_logits * logits) + sum(of_masks * masks)`` in the maps; ties go outside."""
    _, rows, columns, channels = maps.shape
    cells = maps.reshape(*maps.shape[:3], k * k, 2, channels // (2 * k * k))
    out = np.zeros(cells.shape)
    for r, (q, c), (y, x), group in bins(rois, rows, columns, k, p, stride):
        window, target = cells[image_index[r], y, x, group], out[image_index[r], y, x, group]
        count = window.shape[0] * window.shape[1]
        mean = window.mean((0, 1))
        inside = mean[1] > mean[0]
        target[:, :, 1] += np.where(inside, of_logits[r], 0) / (p * p * count)
        target[:, :, 0] += np.where(inside, 0, of_logits[r]) / (p * p * count)
        target[..., labels[r]] += of_masks[r, q, c] / count
    return out.reshape(maps.shape)


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
