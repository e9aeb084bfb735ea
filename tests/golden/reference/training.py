"""One image of a training step."""

import numpy as np
from mxnet import autograd, nd

from tests.golden.reference.convolutions import network
from tests.golden.reference.decisions import margins
from tests.golden.reference.losses import roi_loss_heads, rpn_loss_heads
from tests.golden.reference.pooling import edges_hold, heads, object_scores, softmax
from tests.golden.reference.rois import hardest, label_all_rois
from tests.golden.reference.rpn import grid_anchors, proposals, rpn_targets


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
