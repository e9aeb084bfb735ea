"""Golden arrays of heads, losses, hard examples and mask voting."""

import numpy as np
from mxnet import autograd, nd

from tests.golden import reference as ref
from tests.golden.stages.common import first_safe_seed, random_rois, save


def heads():
    """Maps, ROIs and targets; the heads' answers, losses, OHEM's choice and all gradients."""
    arrays = {}
    for n, (k, p, classes) in enumerate([(7, 21, 3), (3, 9, 4)]):

        def attempt(rng, k=k, p=p, classes=classes):
            score_maps = nd.array(rng.normal(0, 1, (1, 2 * classes * k * k, 6, 8)))
            box_maps = nd.array(rng.normal(0, 1, (1, 8 * k * k, 6, 8)))
            rois = random_rois(rng, 20, 128, 96).astype(np.float32)
            if not ref.edges_hold(rois, p, 6, 8):
                raise RuntimeError
            labels = np.concatenate([rng.integers(1, classes, 8), np.zeros(12, int)])
            deltas = np.where((labels > 0)[:, None], rng.normal(0, 1, (20, 4)), 0)
            targets = np.where((labels > 0)[:, None, None], rng.integers(0, 2, (20, p, p)), -1)
            score_maps.attach_grad(), box_maps.attach_grad()

            def answer(picked):
                return ref.heads(score_maps, box_maps, rois, k, p, classes, picked)

            logits, box, masks = (x.asnumpy().astype(np.float64) for x in answer(labels))
            inside = ref.softmax(masks, 1)[:, 1]
            best = ref.softmax(answer(None)[2].asnumpy().astype(np.float64), 1)[:, 1]
            keep = ref.hardest(ref.softmax(logits), inside, box, labels, deltas, targets, 12)
            carried = np.where(keep, labels, -1)
            gradients = {}
            for which, loss in enumerate(("class", "mask", "box")):
                with autograd.record():
                    outputs, losses = ref.roi_loss_heads(
                        *answer(labels), carried, deltas, targets, 12
                    )
                outputs[which].backward()
                gradients[f"{loss}_score_gradient"] = score_maps.grad.asnumpy()
                gradients[f"{loss}_box_gradient"] = box_maps.grad.asnumpy()
                score_maps.grad[:] = 0
                box_maps.grad[:] = 0
            return gradients | dict(
                k=k, p=p, score_maps=score_maps.asnumpy(), box_maps=box_maps.asnumpy(), rois=rois,
                labels=labels, deltas=deltas, targets=targets.astype(np.int8), logits=logits,
                box=box, inside=inside, inside_best=best, carried=carried,
                losses=[losses[f"roi_{name}"] for name in ("class", "mask", "box")],
            )  # fmt: skip

        found = first_safe_seed(attempt)
        arrays |= {f"{name}{n}": value for name, value in found.items()}
    save("heads", **arrays)


def voting():
    """ROIs of both passes with class and inside probabilities; detections of both variants."""
    arrays = {}
    for n, (height, width, factor) in enumerate([(126, 168, 1.4), (68, 90, 0.75)]):

        def attempt(rng, height=height, width=width, factor=factor):
            centres = random_rois(rng, 5, width, height, least=20)
            rois = centres[rng.integers(0, 5, 60)] + rng.normal(0, 3, (60, 4))
            rois = ref.clip(rois, height, width).astype(np.float32).astype(np.float64)
            w, h = ref.sides(rois)
            rois = rois[(w > 1) & (h > 1)]
            prob = ref.softmax(rng.normal(0, 1.5, (len(rois), 4))).astype(np.float32)
            y, x = (np.mgrid[:21, :21] - 10) / 10
            radius = rng.uniform(0.5, 1.1, (len(rois), 1, 1))
            steep = rng.uniform(3, 8, (len(rois), 1, 1))
            masks = 1 / (1 + np.exp(-steep * (radius - np.hypot(x, y)))).astype(np.float32)
            found = dict(rois=rois, prob=prob, masks=masks, size=(height, width))
            found["factor"] = np.array(factor, np.float64)
            for processor in ("gpu", "cpu"):
                kept = ref.detections(
                    rois, prob.astype(np.float64), masks, height, width, factor, min_size=2,
                    processor=processor, most=12,
                )  # fmt: skip
                original = int(np.rint(height / factor)), int(np.rint(width / factor))
                pictures = [ref.rasterise(box, mask, *original) for _, _, box, mask in kept]
                for i, name in enumerate(("class", "score", "box", "mask")):
                    found[f"{processor}_{name}"] = np.array([d[i] for d in kept])
                found[f"{processor}_picture"] = np.packbits(np.array(pictures), axis=None)
            return found

        found = first_safe_seed(attempt)
        arrays |= {f"{name}{n}": value for name, value in found.items()}
    save("voting", **arrays)
