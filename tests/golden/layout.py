"""From the released conventions of `reference` to the package's, by explicit index."""

import numpy as np


def boxes(released):
    """Inclusive (x1, y1, x2, y2) to half-open (y0, x0, y1, x1)."""
    x1, y1, x2, y2 = np.moveaxis(np.asarray(released, np.float64), -1, 0)
    return np.stack([y1, x1, y2 + 1, x2 + 1], -1).astype(np.float32)


def deltas(released):
    """(dx, dy, dw, dh) to (dy, dx, dh, dw)."""
    return np.asarray(released)[..., [1, 0, 3, 2]]


def nhwc(maps):
    return np.transpose(maps, (0, 2, 3, 1))


def score_channels(k, classes):
    """Released channel of each of our (gy, gx, side, class) channels."""
    return [
        ((2 * c + side) * k + gy) * k + gx
        for gy in range(k)
        for gx in range(k)
        for side in range(2)
        for c in range(classes)
    ]


def box_channels(k):
    """Released channel of each of our (gy, gx, delta) channels; its first half is never read."""
    return [((4 + j) * k + gy) * k + gx for gy in range(k) for gx in range(k) for j in (1, 0, 3, 2)]


def rpn_box_channels(anchors):
    return [4 * a + j for a in range(anchors) for j in (1, 0, 3, 2)]


def rpn_outputs(scores, box_maps):
    """Our logits (B, A, 2) and deltas (B, A, 4) of released RPN maps."""
    images, channels, rows, columns = scores.shape
    count = channels // 2
    logits = np.stack([scores[:, :count], scores[:, count:]], -1)  # (B, a, Hf, Wf, 2)
    table = box_maps.reshape(images, count, 4, rows, columns)
    return (
        logits.transpose(0, 2, 3, 1, 4).reshape(images, -1, 2),
        deltas(table.transpose(0, 3, 4, 1, 2)).reshape(images, -1, 4),
    )


STAGES = {2: "abc", 5: "abc"}


def keras_name(released):
    """res4b2_branch2a_weight -> conv4_block3_1_conv/kernel."""
    kinds = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "var": "moving_variance"}
    name, kind = released.replace("_moving", "").rsplit("_", 1)
    convolution = kind in ("weight", "bias")
    if not name.startswith(("res", "bn", "conv1")):
        return f"{name}/{'kernel' if kind == 'weight' else 'bias'}"
    tail = "conv/kernel" if convolution else f"bn/{kinds[kind]}"
    if name in ("conv1", "bn_conv1"):
        return f"conv1_{tail}"
    unit, branch = name.removeprefix("res").removeprefix("bn").split("_branch")
    stage, label = int(unit[0]), unit[1:]
    block = "abc".index(label) + 1 if len(label) == 1 else int(label[1:]) + 1
    return f"conv{stage}_block{block}_{['1', '2a', '2b', '2c'].index(branch)}_{tail}"


def weights(released, k, classes, anchors):
    """{our path: array} from {released name: array}."""
    rows = {
        "fcis_cls_seg": score_channels(k, classes),
        "fcis_bbox": box_channels(k),
        "rpn_bbox_pred": rpn_box_channels(anchors),
    }
    found = {}
    for name, value in released.items():
        order = rows.get(name.rsplit("_", 1)[0])
        value = value if order is None else value[order]
        if name.endswith("_weight"):
            value = value.transpose(2, 3, 1, 0)
        found[keras_name(name)] = value
    return found
