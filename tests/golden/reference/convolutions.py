"""The convolutions: `get_resnet_v1_conv4`, `conv5` and the maps of `resnet_v1_101_fcis.py`."""

import numpy as np
from mxnet import nd


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
    """What the released code trains: neither conv1 nor stage 2 nor statistics."""
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
