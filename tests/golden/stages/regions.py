"""Golden arrays of anchors, proposals and the targets of ROIs."""

import numpy as np
from mxnet import autograd, nd

from tests.golden import reference as ref
from tests.golden.stages.common import first_safe_seed, random_rois, random_truth, save


def rpn():
    """Anchors; targets without subsampling; the two losses and their gradients."""
    arrays = {
        "coco": ref.grid_anchors(ref.cell_anchors((4, 8, 16, 32)), 3, 2),
        "voc": ref.grid_anchors(ref.cell_anchors((8, 16, 32)), 3, 2),
    }
    cell = ref.cell_anchors((1, 2, 4))
    height, width, rows, columns = 96, 128, 6, 8
    anchors = ref.grid_anchors(cell, rows, columns)

    def attempt(rng, count):
        boxes = random_truth(rng, count, width, height, 4)[0]
        labels, deltas, weights = ref.rpn_targets(anchors, boxes, height, width)
        scores = nd.array(rng.normal(size=(1, 2 * len(cell), rows, columns)))
        box = nd.array(rng.normal(0, 0.5, (1, 4 * len(cell), rows, columns)))
        scores.attach_grad(), box.attach_grad()
        with autograd.record():
            outputs, losses = ref.rpn_loss_heads(
                scores, box, labels, deltas, weights, len(cell), 256
            )
        autograd.backward(outputs)
        return dict(
            truth=boxes.reshape(-1, 4), labels=labels, deltas=deltas, scores=scores.asnumpy(),
            boxes=box.asnumpy(), losses=[losses["rpn_class"], losses["rpn_box"]],
            scores_gradient=scores.grad.asnumpy(), boxes_gradient=box.grad.asnumpy(),
        )  # fmt: skip

    for n, count in enumerate((3, 1, 6, 0)):
        found = first_safe_seed(lambda rng, count=count: attempt(rng, count))
        arrays |= {f"{name}{n}": value for name, value in found.items()}
    save("rpn", **arrays)


def proposals():
    """Raw RPN maps on the full grid, and what is proposed on the smaller one."""
    arrays = {}
    for n, (height, width) in enumerate([(96, 128), (105, 120), (90, 143)]):

        def attempt(rng, height=height, width=width):
            rows, columns = -(-height // 16), -(-width // 16)
            scores = rng.normal(0, 2, (1, 18, rows, columns)).astype(np.float32)
            deltas = rng.normal(0, 0.3, (1, 36, rows, columns)).astype(np.float32)
            boxes, prob = ref.proposals(
                ref.object_scores(nd.array(scores)), deltas[0], height, width,
                ref.cell_anchors((1, 2, 4)), pre_nms=150, count=40, threshold=0.7, min_size=12,
            )  # fmt: skip
            return dict(scores=scores, deltas=deltas, proposals=boxes, probability=prob)

        found = first_safe_seed(attempt)
        size = {f"size{n}": (height, width)}
        arrays |= size | {f"{name}{n}": value for name, value in found.items()}
    save("proposals", **arrays)


def roi_targets():
    """Truth at original size, the factor, and all candidates labelled at p = 21 and 9."""
    arrays = {}
    for n, (original, factor, p, low) in enumerate(
        [((90, 120), 1.4, 21, 0.0), ((100, 80), 0.75, 9, 0.1), ((64, 96), 1.0, 21, 0.0)]
    ):

        def attempt(rng, original=original, factor=factor, p=p, low=low):
            height, width = (int(np.rint(side * factor)) for side in original)
            boxes, classes, masks = random_truth(rng, 4, original[1], original[0], 6)
            truth, resized = ref.resized_truth(boxes, masks, factor, height, width)
            near = truth[rng.integers(0, 4, 30)] + rng.normal(0, 5, (30, 4))
            proposed = np.concatenate([near, random_rois(rng, 20, width, height)])
            proposed = ref.clip(proposed, height, width)
            w, h = ref.sides(proposed)
            proposed = proposed[(w > 4) & (h > 4)].astype(np.float32).astype(np.float64)
            rois, labels, deltas, targets = ref.label_all_rois(
                proposed, truth, classes, resized, low=low, size=p
            )
            return dict(
                original=original, factor=np.array(factor, np.float64), size=(height, width),
                boxes=boxes, classes=classes, masks=np.packbits(masks, axis=None), low=low, p=p,
                truth=truth, resized=resized[1], proposed=proposed, rois=rois, labels=labels,
                deltas=deltas, targets=targets.astype(np.int8),
            )  # fmt: skip

        found = first_safe_seed(attempt)
        arrays |= {f"{name}{n}": value for name, value in found.items()}
    save("roi_targets", **arrays)
