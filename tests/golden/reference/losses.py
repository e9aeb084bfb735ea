"""The losses that `get_symbol` of `resnet_v1_101_fcis.py` attaches, for MXNet's backward pass."""

import numpy as np
from mxnet import nd


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
