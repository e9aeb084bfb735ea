"""Write the golden arrays: ``python tests/golden/make_golden.py [stage ...]``.

Needs MXNet, which is not a requirement of the project, in an environment of its own, Python 3.11:

    python3.11 -m venv /tmp/golden && cd /tmp/golden
    bin/pip install numpy==1.23.5 requests graphviz==0.8.4
    bin/pip install --no-deps mxnet==1.9.1 opencv-python-headless==4.8.1.78
    bin/python .../tests/golden/make_golden.py

Every stage is a function here and a file beside it; the keys of a file are the keywords of the
`save` that wrote it. Conventions are those of reference.py: inclusive (x1, y1, x2, y2), NCHW.
"""

import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import reference as ref
from mxnet import autograd, nd

HERE = Path(__file__).parent
UNITS = (1, 2, 2, 3)
WIDTHS = (4, 8, 16, 16)  # inner widths of stages 2 to 5
K, P, CLASSES = 3, 9, 5  # of the tiny network, background included


def save(stage, **arrays):
    """Floats in single precision, unless they have to be exact."""

    def small(value):
        value = np.asarray(value)
        return value.astype(np.float32) if value.dtype == np.float64 else value

    path = HERE / f"{stage}.npz"
    np.savez_compressed(path, **{name: small(value) for name, value in arrays.items()})
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB; margins {rounded(ref.margins)}")


def rounded(margins):
    return {kind: float(f"{value:.1e}") for kind, value in sorted(margins.items())}


def is_safe():
    """Whether no decision of the reference sat on its edge."""
    least = {"vote": 1e-6, "mask target": 1e-6, "order of scores": 1e-5}
    least |= {"cut of proposals": 1e-5, "hard example": 3e-4}
    return all(value > least.get(kind, 1e-4) for kind, value in ref.margins.items())


def first_safe_seed(attempt, tries=400):
    """The result of the first seed for which `attempt(rng)` meets no decision on its edge."""
    for seed in range(tries):
        ref.margins.clear()
        try:
            result = attempt(np.random.default_rng(seed))
        except RuntimeError:
            continue
        if is_safe():
            return {"seed": seed, **result}
    raise SystemExit(f"no seed below {tries} is safe; the last had {rounded(ref.margins)}")


def random_rois(rng, count, width, height, least=10):
    x1, y1 = rng.uniform(0, width - least - 1, count), rng.uniform(0, height - least - 1, count)
    x2 = x1 + rng.uniform(least, width, count)
    y2 = y1 + rng.uniform(least, height, count)
    return np.stack([x1, y1, np.minimum(x2, width - 1), np.minimum(y2, height - 1)], 1)


def blobs(rng, boxes, height, width):
    """Filled ellipses with a bite, tight in integer boxes."""
    masks = []
    y, x = np.mgrid[:height, :width]
    for x1, y1, x2, y2 in boxes:
        cx, cy, rx, ry = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2
        mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
        bite = ((x - cx - 0.5 * rx) / (0.4 * rx)) ** 2 + ((y - cy) / (0.4 * ry)) ** 2 <= 1
        masks.append(mask & ~bite if rng.uniform() < 0.7 else mask)
    return np.array(masks).astype(np.uint8)


def random_truth(rng, count, width, height, classes):
    boxes = np.round(random_rois(rng, count, width, height, least=24))
    return boxes, rng.integers(1, classes, count), blobs(rng, boxes, height, width)


# ---------------------------------------------------------------- stages


def ps_roi_pool():
    """Keys with the combination's number: k, p, maps, rois (R, 5), output, upstream, gradient."""
    arrays = {}
    for n, (p, k) in enumerate([(21, 7), (9, 3), (7, 7), (14, 7), (21, 1), (8, 3)]):
        rng = np.random.default_rng(n)
        depth = 2
        odd = [
            [40, 30, 40, 30],  # one pixel
            [40.2, 30.3, 41.1, 30.9],  # less than a cell
            [90, 80, 60, 50],  # inverted
            [-70, -60, -20, -10],  # outside
            [300, 30, 500, 90],  # outside on the right
            [-20.5, 100.5, 90.5, 260.5],  # partly outside, on .5
            [16.5, 17.5, 99.5, 98.5],
            [0, 0, 271, 191],
        ]
        rois = np.concatenate([np.array(odd), random_rois(rng, 8, 272, 192)])
        good = [r for r in rois if ref.edges_hold([r], p, 12, 17)]
        print(f"p {p}, k {k}: {len(good)} of {len(rois)} ROIs have exact edges in float32")
        rois = np.concatenate([rng.integers(0, 2, (len(good), 1)), good], 1).astype(np.float32)
        maps = nd.array(rng.normal(size=(2, k * k * depth, 12, 17)))
        upstream = rng.normal(size=(len(rois), depth, p, p)).astype(np.float32)
        maps.attach_grad()
        with autograd.record():
            output = ref.ps_roi_pool(maps, nd.array(rois), k, p, depth)
        output.backward(nd.array(upstream))
        part = dict(k=k, p=p, maps=maps.asnumpy(), rois=rois, output=output.asnumpy())
        part |= dict(upstream=upstream, gradient=maps.grad.asnumpy())
        arrays |= {f"{name}{n}": value for name, value in part.items()}
    save("ps_roi_pool", **arrays)


def backbone():
    """Parameters by released name; images and their maps; gradients of sum(C4 g4) + sum(C5 g5)."""
    rng = np.random.default_rng(0)
    parameters = ref.random_parameters(rng, UNITS, WIDTHS)
    arrays = dict(parameters)
    for n, (height, width) in enumerate([(64, 96), (65, 97), (81, 50), (66, 71)]):
        image = rng.normal(0, 60, (height, width, 3)).astype(np.float32)
        on = {name: nd.array(value) for name, value in parameters.items()}
        trained = [name for name in on if ref.is_trained(name)]
        for name in trained:
            on[name].attach_grad()
        with autograd.record():
            conv4, conv5 = ref.backbone(on, nd.array(image.transpose(2, 0, 1)[None]), UNITS)
        arrays |= {f"image{n}": image, f"conv4_{n}": conv4.asnumpy(), f"conv5_{n}": conv5.asnumpy()}
        if n == 1:
            up = [rng.normal(size=x.shape).astype(np.float32) for x in (conv4, conv5)]
            autograd.backward([conv4, conv5], [nd.array(u) for u in up])
            arrays |= {"upstream4": up[0], "upstream5": up[1]}
            arrays |= {f"gradient_{name}": on[name].grad.asnumpy() for name in trained}
    save("backbone", **arrays)


def image():
    """raw uint8 RGB, short and long side, input (H, W, 3), info (height, width, factor)."""
    rng, arrays = np.random.default_rng(0), {}
    cases = [(45, 61, 60, 100), (61, 45, 60, 100), (40, 90, 60, 100), (83, 60, 60, 100),
             (111, 74, 48, 64), (50, 76, 60, 91)]  # fmt: skip
    for n, (height, width, short, long) in enumerate(cases):
        raw = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        tensor, info = ref.image_input(raw, short, long)
        arrays |= {f"raw{n}": raw, f"sides{n}": (short, long)}
        arrays |= {f"input{n}": tensor, f"info{n}": np.array(info, np.float64)}
    save("image", **arrays)


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


TINY = dict(
    units=UNITS,
    k=K,
    p=P,
    classes=CLASSES,
    cell=ref.cell_anchors((1, 2, 4)),
    rpn_batch=4096,  # nothing is left to chance
    roi_batch=16,
    proposals=dict(pre_nms=200, count=30, threshold=0.7, min_size=2),
)


def tiny_parameters(rng):
    parameters = ref.random_parameters(rng, UNITS, WIDTHS, (9, 16, 24, CLASSES, K))
    for name in ("rpn_bbox_pred", "fcis_bbox", "rpn_cls_score"):
        parameters[f"{name}_weight"] *= 0.1
    return parameters


def end_to_end():
    """The tiny network on one image: every map, both passes, detections and their pictures."""
    height, width = 96, 128

    def attempt(rng):
        parameters = tiny_parameters(rng)
        parameters["fcis_cls_seg_weight"] *= 2
        tensor = rng.normal(0, 60, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
        tensor = (tensor + rng.normal(0, 10, tensor.shape)).astype(np.float32)
        on = {name: nd.array(value) for name, value in parameters.items()}
        maps = ref.network(on, nd.array(tensor.transpose(2, 0, 1)[None]), UNITS)
        proposed, scores = ref.proposals(
            ref.object_scores(maps["rpn_cls_score"]), maps["rpn_bbox_pred"].asnumpy()[0],
            height, width, TINY["cell"], **TINY["proposals"],
        )  # fmt: skip
        rois, prob, masks = ref.two_passes(maps, proposed, height, width, K, P, CLASSES)
        if not ref.edges_hold(rois, P, 6, 8):
            raise RuntimeError
        found = ref.detections(
            rois, prob, masks, height, width, 1.0, min_size=2, processor="gpu", most=20
        )
        pictures = [ref.rasterise(box, mask, height, width) for _, _, box, mask in found]
        return parameters | {
            "image": tensor, **{name: value.asnumpy() for name, value in maps.items()},
            "proposals": proposed, "scores": scores, "rois": rois, "prob": prob, "masks": masks,
            "detected_class": [d[0] for d in found], "detected_score": [d[1] for d in found],
            "detected_box": [d[2] for d in found], "detected_mask": [d[3] for d in found],
            "picture": np.packbits(np.array(pictures), axis=None),
        }  # fmt: skip

    save("end_to_end", **first_safe_seed(attempt))


def trajectory():
    """Five steps of two images: initial and final parameters, losses (step, image, name)."""
    height, width, steps = 96, 128, 5
    names = ("rpn_class", "rpn_box", "roi_class", "roi_mask", "roi_box")

    def attempt(rng):
        parameters = tiny_parameters(rng)
        images = rng.normal(0, 60, (2, height // 8, width // 8, 3)).repeat(8, 1).repeat(8, 2)
        images = (images + rng.normal(0, 10, images.shape)).astype(np.float32)
        truths = [random_truth(rng, 3, width, height, CLASSES) for _ in images]
        on = {name: nd.array(value) for name, value in parameters.items()}
        trained = [name for name in on if ref.is_trained(name)]
        for name in trained:
            on[name].attach_grad("add")  # the released code sums over devices
        optimizer = mx.optimizer.SGD(
            momentum=0.9, wd=5e-4, learning_rate=2e-3, param_idx2name=dict(enumerate(trained))
        )
        optimizer.set_lr_mult({"conv_new_1_weight": 3.0, "conv_new_1_bias": 3.0})
        optimizer.set_wd_mult({})  # none on biases and beta, by MXNet's own rule
        update = mx.optimizer.get_updater(optimizer)
        history = []
        for _ in range(steps):
            for name in trained:
                on[name].grad[:] = 0
            for tensor, truth in zip(images, truths, strict=True):
                outputs, losses = ref.training_losses(on, tensor, truth, TINY)
                autograd.backward(outputs)
                history.append([losses[name] for name in names])
                if not is_safe():
                    raise RuntimeError
            for i, name in enumerate(trained):
                update(i, on[name].grad, on[name])
        result = {f"initial_{name}": value for name, value in parameters.items()}
        result |= {f"final_{name}": on[name].asnumpy() for name in trained}
        for n, (boxes, classes, masks) in enumerate(truths):
            packed = np.packbits(masks, axis=None)
            result |= {f"boxes{n}": boxes, f"classes{n}": classes, f"masks{n}": packed}
        return result | {"images": images, "losses": np.array(history).reshape(steps, 2, 5)}

    save("trajectory", **first_safe_seed(attempt))


def params():
    """The network of end_to_end as MXNet writes it, and a part of it in the two older encodings."""
    with np.load(HERE / "end_to_end.npz") as file:
        arrays = {n: v for n, v in file.items() if n.endswith(("weight", "bias", "gamma", "beta"))}
        statistics = {n: v for n, v in file.items() if "_moving_" in n}
    std = np.tile(np.repeat(ref.STD, K * K), 2)
    arrays["fcis_bbox_weight_test"] = arrays["fcis_bbox_weight"] * std[:, None, None, None]
    arrays["fcis_bbox_bias_test"] = arrays["fcis_bbox_bias"] * std
    named = {f"arg:{n}": v for n, v in arrays.items()} | {
        f"aux:{n}": v for n, v in statistics.items()
    }
    mx.nd.save(str(HERE / "params_v2.params"), {n: nd.array(v) for n, v in named.items()})
    part = ("arg:conv1_weight", "arg:fcis_bbox_bias", "aux:bn_conv1_moving_var")
    for kind in ("v1", "legacy"):
        path = HERE / f"params_{kind}.params"
        path.write_bytes(encoded({name: named[name] for name in part}, kind))
        for name, value in mx.nd.load(str(path)).items():
            np.testing.assert_array_equal(value.asnumpy(), named[name].astype(np.float32))


def encoded(arrays, kind):
    """The bytes of a .params file with arrays as MXNet wrote them before V2 [11.1]."""
    words = [np.array([0x112, 0, len(arrays)], "<u8")]
    for value in arrays.values():
        if kind == "v1":
            words += [np.array([0xF993FAC8, value.ndim], "<u4"), np.array(value.shape, "<i8")]
        else:
            words += [np.array([value.ndim, *value.shape], "<u4")]
        words += [np.array([1, 0, 0], "<i4"), value.astype("<f4")]
    words.append(np.array([len(arrays)], "<u8"))
    for name in arrays:
        words += [np.array([len(name)], "<u8"), np.frombuffer(name.encode(), "u1")]
    return b"".join(word.tobytes() for word in words)


STAGES = (
    ps_roi_pool, backbone, image, rpn, proposals, roi_targets, heads, voting, end_to_end,
    trajectory, params,
)  # fmt: skip

if __name__ == "__main__":
    for stage in STAGES:
        if len(sys.argv) == 1 or stage.__name__ in sys.argv[1:]:
            ref.margins.clear()
            stage()
