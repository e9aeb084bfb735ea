"""Weights in the names and layouts of ChainerCV's FCISResNet101."""

import re
from pathlib import Path

import numpy as np

from fcis_tf.errors import FcisError
from fcis_tf.weights.mxnet import CLASS_HEAD, SWAP, Weights, from_released, reorder


def from_chainercv(arrays: Weights, source: str | Path) -> Weights:
    """From the arrays of ChainerCV's FCISResNet101.

    Its layouts are the released ones but for the deltas, which are (dy, dx, dh, dw), and the RPN
    scores, whose channels are (anchor, background or object). Its own trainings used anchors that
    are not rounded to whole pixels and half-open boxes: expect slightly other numbers here.
    """
    released: Weights = {}
    for path, array in arrays.items():
        name = _released_name(path)
        if name is None:
            raise FcisError(f"{source}: {path}: not an array of ChainerCV's FCISResNet101")
        if not path.endswith("/N"):  # a counter of Chainer's batch normalisation
            released[name] = np.asarray(array)
    for kind in ("weight", "bias"):
        for layer, shape, order in (
            ("rpn_bbox_pred", (-1, 4), lambda v: v[:, SWAP]),
            ("rpn_cls_score", (-1, 2), lambda v: v.swapaxes(0, 1)),
            ("fcis_bbox", (2, 4, -1), lambda v: v[:, SWAP]),
        ):
            name = f"{layer}_{kind}"
            if name in released:
                released[name] = reorder(released[name], shape, order, f"{source}: {name}")
    return from_released(released, source)


def _released_name(path: str) -> str | None:
    """``extractor/res4/b22/conv1/bn/avg_var`` -> ``bn4b22_branch2a_moving_var``."""
    heads = {
        "rpn/conv1": "rpn_conv_3x3",
        "rpn/score": "rpn_cls_score",
        "rpn/loc": "rpn_bbox_pred",
        "head/conv1": "conv_new_1",
        "head/cls_seg": CLASS_HEAD,
        "head/ag_loc": "fcis_bbox",
    }
    layer, _, kind = path.rpartition("/")
    if layer in heads and kind in "Wb":
        return f"{heads[layer]}_{'weight' if kind == 'W' else 'bias'}"
    kinds = {"avg_mean": "moving_mean", "avg_var": "moving_var", "N": "N"}
    kinds |= {"gamma": "gamma", "beta": "beta"}
    match = re.fullmatch(r"extractor/(.+)/(?:(conv)/W|bn/(\w+))", path)
    if match is None or (match[3] and match[3] not in kinds):
        return None
    end = "weight" if match[2] else kinds[match[3]]
    if match[1] == "conv1":
        return f"{'conv1' if match[2] else 'bn_conv1'}_{end}"
    unit = re.fullmatch(r"res([2-5])/(a|b\d+)/(residual_conv|conv[123])", match[1])
    if unit is None:
        return None
    branch = {"residual_conv": "1", "conv1": "2a", "conv2": "2b", "conv3": "2c"}[unit[3]]
    return f"{'res' if match[2] else 'bn'}{unit[1]}{unit[2]}_branch{branch}_{end}"
