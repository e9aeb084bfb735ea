"""From heads to instances.

`fcis/core/tester.py: im_detect`, `lib/mask/mask_transform.py: gpu_mask_voting` and
`cpu_mask_voting`.
"""

import cv2
import numpy as np

from tests.golden.reference.boxes import clip, decode, nms, overlaps, sides
from tests.golden.reference.decisions import note, rint
from tests.golden.reference.pooling import heads, softmax
from tests.golden.reference.rois import STD


def two_passes(maps, rois, height, width, k, p, classes):
    """ROIs (2n, 4), probabilities (2n, K) and inside probabilities (2n, p, p)."""

    def read(boxes):
        logits, deltas, masks = heads(maps["fcis_cls_seg"], maps["fcis_bbox"], boxes, k, p, classes)
        prob = softmax(logits.asnumpy().astype(np.float64))
        return prob, deltas.asnumpy(), softmax(masks.asnumpy().astype(np.float64), 1)[:, 1]

    prob, deltas, masks = read(rois)
    refined = clip(decode(rois, deltas.astype(np.float64) * STD), height, width)
    again, _, masks_again = read(refined)
    join = np.concatenate
    return join([rois, refined]), join([prob, again]), join([masks, masks_again])


def detections(
    rois,
    prob,
    masks,
    height,
    width,
    factor,
    *,
    min_size,
    processor,
    threshold=0.3,
    most=100,
    binary=0.4,
    overlap=0.5,
):
    """Suppression and voting: list of (class, score, box, p x p mask), class by class.

    processor: "gpu" or "cpu", the two variants of the released code.
    """
    w, h = sides(rois)
    note("least side", np.concatenate([w - min_size, h - min_size]))
    keep = (w >= min_size) & (h >= min_size)
    height, width = int(np.rint(height / factor)), int(np.rint(width / factor))
    boxes, prob, masks = clip(rois[keep] / factor, height, width), prob[keep], masks[keep]
    kept = []
    for c in range(1, prob.shape[1]):
        for i in nms(boxes, prob[:, c], threshold, processor == "cpu")[:most]:
            kept.append((c, prob[i, c], i))
    scores = np.sort([score for _, score, _ in kept])[::-1]
    tau = max(scores[most - 1] if len(scores) >= most else 0, 1e-3)
    note("least score", [s - 1e-3 for _, s, _ in kept])
    found = []
    for c, score, i in kept:
        if score < tau:
            continue
        around = overlaps(boxes[i : i + 1], boxes)[0]
        note("voter", around - overlap)
        voters = np.flatnonzero(around >= overlap)
        share = prob[voters, c] / prob[voters, c].sum()
        votes = np.zeros((height, width))
        for weight, v in zip(share, voters, strict=True):
            x1, y1, x2, y2 = rint(boxes[v]).astype(int)
            size = (x2 - x1 + 1, y2 - y1 + 1)
            mask = cv2.resize(masks[v].astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
            votes[y1 : y2 + 1, x1 : x2 + 1] += weight * (mask >= binary)
        note("vote", votes[votes > 0] - binary)
        ys, xs = np.nonzero(votes >= binary)
        if not len(ys):
            continue
        x1, y1, x2, y2 = xs.min(), ys.min(), xs.max(), ys.max()
        if processor == "gpu" and (x2 <= x1 or y2 <= y1):
            continue
        side = masks.shape[-1]
        if processor == "cpu":
            part = votes[y1 : y2 + 1, x1 : x2 + 1]
            mask = cv2.resize(part, (side, side), interpolation=cv2.INTER_LINEAR)
        else:
            mask = sample_whole(votes, (x1, y1, x2, y2), side)
        found.append((c, score, np.array([x1, y1, x2, y2]), mask))
    return found


def sample_whole(votes, box, side):
    """Votes at the cells of a box, interpolated with pixels outside the box too."""
    x1, y1, x2, y2 = box
    u = np.clip((np.arange(side) + 0.5) * (x2 - x1 + 1) / side - 0.5 + x1, 0, votes.shape[1] - 1)
    v = np.clip((np.arange(side) + 0.5) * (y2 - y1 + 1) / side - 0.5 + y1, 0, votes.shape[0] - 1)
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    right = np.minimum(left + 1, votes.shape[1] - 1)
    bottom = np.minimum(top + 1, votes.shape[0] - 1)
    fx, fy = u - left, (v - top)[:, None]
    upper = votes[top][:, left] * (1 - fx) + votes[top][:, right] * fx
    lower = votes[bottom][:, left] * (1 - fx) + votes[bottom][:, right] * fx
    return upper * (1 - fy) + lower * fy


def rasterise(box, mask, height, width, binary=0.4):
    """A p x p mask on the image's pixels."""
    x1, y1, x2, y2 = box
    size = (int(x2 - x1 + 1), int(y2 - y1 + 1))
    part = cv2.resize(mask.astype(np.float64), size, interpolation=cv2.INTER_LINEAR) >= binary
    image = np.zeros((height, width), np.uint8)
    image[y1 : y2 + 1, x1 : x2 + 1] = part
    return image
