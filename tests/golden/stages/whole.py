"""Golden arrays of the whole network: one image, and five training steps."""

import mxnet as mx
import numpy as np
from mxnet import autograd, nd

from tests.golden import reference as ref
from tests.golden.stages.common import (
    CLASSES,
    TINY,
    UNITS,
    K,
    P,
    first_safe_seed,
    is_safe,
    random_truth,
    save,
    tiny_parameters,
)


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
