"""FCIS as the released code computes it, written from the specification for the golden arrays.

Nothing here is shared with the package: boxes are inclusive (x1, y1, x2, y2), tensors NCHW,
channels in the released order. MXNet runs the operators it has; the operators that the released
code wrote in Python are plain NumPy. Numbers in brackets are sections of the specification.

Every discrete decision (rounding, thresholds, order) notes in `margins` how near to its edge it
was, so that golden arrays can be chosen that do not hang on the last bit.
"""

from fractions import Fraction
from math import ceil, floor

import cv2
import numpy as np
from mxnet import autograd, nd

MEANS = np.array([123.15, 115.90, 103.06], np.float32)  # R, G, B [1.1]
STD = np.array([0.2, 0.2, 0.5, 0.5])  # of the box deltas [3.3]

margins = {}


def note(kind, distances):
    """Remember the smallest distance of a kind of decision from its edge."""
    distances = np.abs(np.asarray(distances, np.float64)).ravel()
    if distances.size:
        margins[kind] = min(margins.get(kind, np.inf), float(distances.min()))


def rint(values):
    note("rounding", np.abs(values - np.floor(values) - 0.5))
    return np.rint(values)


# ---------------------------------------------------------------- image [1.1]


def image_input(image, short_side, long_side):
    """(H, W, 3) float32 RGB less the means, and (height, width, factor)."""
    shorter, longer = min(image.shape[:2]), max(image.shape[:2])
    factor = short_side / shorter
    if np.round(factor * longer) > long_side:
        factor = long_side / longer
    resized = cv2.resize(image, None, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.float32) - MEANS, (*resized.shape[:2], factor)


# ---------------------------------------------------------------- boxes [0]


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


# ---------------------------------------------------------------- anchors and RPN [1.4, 2, 3.2]


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


# ---------------------------------------------------------------- ROIs and their targets [3, 5]


def resized_truth(boxes, masks, factor, height, width):
    """Boxes in whole network pixels, and masks (G, H, W) that stay fractional [3.1]."""
    boxes = clip(np.rint(boxes * factor), height, width)
    size = (width, height)
    masks = [cv2.resize(m.astype(np.float64), size, interpolation=cv2.INTER_LINEAR) for m in masks]
    return boxes, np.array(masks).reshape(len(boxes), height, width)


def mask_target(roi, box, mask, size):
    """(size, size) 0 or 1 [5.3]."""
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
    """All candidates, foreground first: rois, labels, box deltas / STD, mask targets [3.3, 5.3]."""
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
    """Which ROIs carry a loss: the `count` of largest weighted loss [5.5]."""
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


# ---------------------------------------------------------------- pooling and heads [4]


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
    """Class logits (R, K), deltas (R, 4), mask logits (R, 2, p, p) outside and inside [4.4].

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


# ---------------------------------------------------------------- losses [2, 5]


def rpn_loss_heads(score_maps, box_maps, labels, deltas, weights, anchors_per_cell, batch):
    """Outputs whose MXNet backward pass is that of the two RPN losses; and the losses."""
    _, _, rows, columns = score_maps.shape
    grid = labels.reshape(rows, columns, anchors_per_cell).transpose(2, 0, 1).reshape(1, -1)
    logits = nd.reshape(score_maps, (1, 2, -1))
    probability = nd.SoftmaxOutput(
        logits,
        nd.array(grid),
        multi_output=True,
        use_ignore=True,
        ignore_label=-1,
        normalization="valid",
    )

    def maps(values):
        table = values.reshape(rows, columns, anchors_per_cell * 4).transpose(2, 0, 1)
        return nd.array(table[None])

    distance = maps(weights) * nd.smooth_l1(box_maps - maps(deltas), scalar=3.0)
    box = nd.MakeLoss(distance, grad_scale=1.0 / batch)
    p = probability.asnumpy()[0]
    valid = grid[0] >= 0
    chosen = np.where(grid[0] == 1, p[1], p[0])[valid]
    losses = {
        "rpn_class": float(-np.log(chosen.astype(np.float64)).sum() / max(valid.sum(), 1)),
        "rpn_box": float(distance.asnumpy().sum() / batch),
    }
    return [probability, box], losses


def roi_loss_heads(logits, box_deltas, masks, labels, deltas, targets, batch, mask_weight=10.0):
    """The same for class, mask and box of the ROIs; label -1 has no loss."""
    labels = np.asarray(labels)
    bins = targets.shape[-1] ** 2
    probability = nd.SoftmaxOutput(
        logits,
        nd.array(labels),
        use_ignore=True,
        ignore_label=-1,
        normalization="valid",
    )
    carried = np.where((labels > 0)[:, None, None], targets, -1)
    inside = nd.SoftmaxOutput(
        masks,
        nd.array(carried),
        multi_output=True,
        use_ignore=True,
        ignore_label=-1,
        grad_scale=mask_weight / batch,
    )
    weights = nd.array(np.repeat((labels > 0)[:, None], 4, 1).astype(np.float32))
    distance = weights * nd.smooth_l1(box_deltas - nd.array(deltas), scalar=1.0)
    box = nd.MakeLoss(distance, grad_scale=1.0 / batch)
    p, m = probability.asnumpy().astype(np.float64), inside.asnumpy().astype(np.float64)
    rows = np.flatnonzero(labels >= 0)
    pixel = np.where(carried == 1, -np.log(m[:, 1]), np.where(carried == 0, -np.log(m[:, 0]), 0))
    losses = {
        "roi_class": float(-np.log(p[rows, labels[rows]]).sum() / max(len(rows), 1)),
        "roi_mask": float(mask_weight / batch * pixel.sum() / bins),
        "roi_box": float(distance.asnumpy().sum() / batch),
    }
    return [probability, inside, box], losses


# ---------------------------------------------------------------- network [1.2, 1.3]


def unit_names(stage, count):
    if stage in (2, 5):
        return [chr(ord("a") + i) for i in range(count)]
    return ["a"] + [f"b{i}" for i in range(1, count)]


def convolution_shapes(units, widths, heads):
    """{name: (out, in, kh, kw)} of the backbone and, if given, the heads.

    widths: inner widths of stages 2 to 5. heads: (anchors, rpn channels, new channels, K, k).
    """
    shapes = {"conv1": (widths[0], 3, 7, 7)}
    below = widths[0]
    for stage, count, width in zip((2, 3, 4, 5), units, widths, strict=True):
        for unit in unit_names(stage, count):
            name = f"res{stage}{unit}_branch"
            if unit == "a":
                shapes[name + "1"] = (4 * width, below, 1, 1)
            shapes[name + "2a"] = (width, below, 1, 1)
            shapes[name + "2b"] = (width, width, 3, 3)
            shapes[name + "2c"] = (4 * width, width, 1, 1)
            below = 4 * width
    if heads:
        anchors, rpn, new, classes, k = heads
        shapes["rpn_conv_3x3"] = (rpn, 4 * widths[2], 3, 3)
        shapes["rpn_cls_score"] = (2 * anchors, rpn, 1, 1)
        shapes["rpn_bbox_pred"] = (4 * anchors, rpn, 1, 1)
        shapes["conv_new_1"] = (new, below, 1, 1)
        shapes["fcis_cls_seg"] = (2 * classes * k * k, new, 1, 1)
        shapes["fcis_bbox"] = (8 * k * k, new, 1, 1)
    return shapes


def is_head(name):
    return name.startswith(("rpn", "conv_new", "fcis"))


def norm_name(name):
    return "bn_conv1" if name == "conv1" else name.replace("res", "bn", 1)


def random_parameters(rng, units, widths, heads=None):
    """{released name: float32 array} with statistics that fit the activations roughly."""
    parameters = {}
    for name, shape in convolution_shapes(units, widths, heads).items():
        fan_in = shape[1] * shape[2] * shape[3]
        parameters[f"{name}_weight"] = rng.normal(0, np.sqrt(2 / fan_in), shape)
        if is_head(name):
            parameters[f"{name}_bias"] = rng.normal(0, 0.05, shape[0])
            continue
        norm, spread = norm_name(name), 2e4 if name == "conv1" else 2.0
        parameters[f"{norm}_gamma"] = rng.uniform(0.5, 1.0, shape[0])
        parameters[f"{norm}_beta"] = rng.normal(0, 0.2, shape[0])
        parameters[f"{norm}_moving_mean"] = rng.normal(0, 0.1 * np.sqrt(spread), shape[0])
        parameters[f"{norm}_moving_var"] = spread * rng.uniform(0.5, 1.5, shape[0])
    return {name: value.astype(np.float32) for name, value in parameters.items()}


def is_trained(name):
    """What the released code trains: neither conv1 nor stage 2 nor statistics [1.2]."""
    return not name.startswith(("conv1", "bn_conv1", "res2", "bn2")) and "_moving_" not in name


def backbone(parameters, image, units):
    """C4 and C5 of image (1, 3, H, W)."""

    def unit(x, name, stride=1, pad=0, dilate=1, relu=True):
        weight = parameters[f"{name}_weight"]
        x = nd.Convolution(
            x,
            weight,
            no_bias=True,
            num_filter=weight.shape[0],
            kernel=weight.shape[2:],
            stride=(stride, stride),
            pad=(pad, pad),
            dilate=(dilate, dilate),
        )
        norm = norm_name(name)
        x = nd.BatchNorm(
            x,
            *(parameters[f"{norm}_{p}"] for p in ("gamma", "beta", "moving_mean", "moving_var")),
            use_global_stats=True,
            fix_gamma=False,
            eps=1e-5,
        )
        return nd.relu(x) if relu else x

    x = unit(image, "conv1", stride=2, pad=3)
    x = nd.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full")
    outputs = []
    for stage, count in zip((2, 3, 4, 5), units, strict=True):
        dilate = 2 if stage == 5 else 1
        for label in unit_names(stage, count):
            name = f"res{stage}{label}_branch"
            stride = 2 if label == "a" and stage in (3, 4) else 1
            shortcut = unit(x, name + "1", stride, relu=False) if label == "a" else x
            y = unit(x, name + "2a", stride)
            y = unit(y, name + "2b", pad=dilate, dilate=dilate)
            x = nd.relu(shortcut + unit(y, name + "2c", relu=False))
        outputs.append(x)
    return outputs[2], outputs[3]


def network(parameters, image, units):
    """All maps by name."""

    def convolve(x, name, relu=False):
        weight = parameters[f"{name}_weight"]
        pad = weight.shape[2] // 2
        x = nd.Convolution(
            x,
            weight,
            parameters[f"{name}_bias"],
            num_filter=weight.shape[0],
            kernel=weight.shape[2:],
            pad=(pad, pad),
        )
        return nd.relu(x) if relu else x

    conv4, conv5 = backbone(parameters, image, units)
    rpn = convolve(conv4, "rpn_conv_3x3", relu=True)
    new = convolve(conv5, "conv_new_1", relu=True)
    return {
        "conv4": conv4,
        "conv5": conv5,
        "rpn_cls_score": convolve(rpn, "rpn_cls_score"),
        "rpn_bbox_pred": convolve(rpn, "rpn_bbox_pred"),
        "fcis_cls_seg": convolve(new, "fcis_cls_seg"),
        "fcis_bbox": convolve(new, "fcis_bbox"),
    }


def object_scores(rpn_cls_score):
    """(A, Hf, Wf) probability of an object."""
    values = rpn_cls_score.asnumpy()[0].astype(np.float64)
    half = len(values) // 2
    return 1 / (1 + np.exp(values[:half] - values[half:]))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


# ---------------------------------------------------------------- inference [6, 7]


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
    """Suppression and voting [7]: list of (class, score, box, p x p mask), class by class.

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


# ---------------------------------------------------------------- one image of a training step


def training_losses(parameters, image, truth, settings):
    """Loss heads to run backward from, losses by name, and what was decided on the way.

    image (H, W, 3) less the means; truth is (boxes, classes, masks) in network pixels.
    """
    boxes, classes, masks = truth
    height, width = image.shape[:2]
    units, k, p, cell = (settings[name] for name in ("units", "k", "p", "cell"))
    with autograd.record():
        maps = network(parameters, nd.array(image.transpose(2, 0, 1)[None]), units)
        rows, columns = maps["conv4"].shape[2:]
        labels, deltas, weights = rpn_targets(
            grid_anchors(cell, rows, columns), boxes, height, width
        )
        rpn, losses = rpn_loss_heads(
            maps["rpn_cls_score"], maps["rpn_bbox_pred"], labels, deltas, weights, len(cell),
            settings["rpn_batch"],
        )  # fmt: skip
        with autograd.pause():
            proposed, _ = proposals(
                object_scores(maps["rpn_cls_score"]),
                maps["rpn_bbox_pred"].asnumpy()[0],
                height,
                width,
                cell,
                **settings["proposals"],
            )
            if len(proposed) < settings["proposals"]["count"]:
                raise RuntimeError("too few proposals; the released code would pad at random")
            rois, roi_labels, roi_deltas, targets = label_all_rois(
                proposed, boxes, classes, masks, low=0.0, size=p
            )
            if not edges_hold(rois, p, rows, columns):
                margins["bin edge"] = 0.0
        logits, box_deltas, mask_logits = heads(
            maps["fcis_cls_seg"], maps["fcis_bbox"], rois, k, p, settings["classes"], roi_labels
        )
        keep = hardest(
            softmax(logits.asnumpy().astype(np.float64)),
            softmax(mask_logits.asnumpy().astype(np.float64), 1)[:, 1],
            box_deltas.asnumpy(),
            roi_labels,
            roi_deltas,
            targets,
            settings["roi_batch"],
        )
        carried = np.where(keep, roi_labels, -1)
        roi, roi_losses = roi_loss_heads(
            logits, box_deltas, mask_logits, carried, roi_deltas, targets, settings["roi_batch"]
        )
    return rpn + roi, losses | roi_losses
