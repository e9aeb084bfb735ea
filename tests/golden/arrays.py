"""Golden arrays as the tests read them, and the tiny network that made some of them."""

from pathlib import Path

import numpy as np

from fcis_tf.config import load_config

K, P, CLASSES = 3, 9, 5
SIZES = (16.0, 32.0, 64.0)
RATIOS = (0.5, 1.0, 2.0)


def golden(stage):
    with np.load(Path(__file__).parent / f"{stage}.npz") as file:
        return dict(file)


def cases(stage, key):
    """The numbered cases of a stage as dictionaries without their number."""
    arrays = golden(stage)
    count = sum(name.rstrip("0123456789") == key for name in arrays)
    return [
        {name.removesuffix(str(n)): v for name, v in arrays.items() if name.endswith(str(n))}
        for n in range(count)
    ]


def unpack(bits, shape):
    return np.unpackbits(bits)[: int(np.prod(shape))].reshape(shape)


def assign(weights, values):
    """Set each variable from {end of its path: value}; both must be used up."""
    values = dict(values)
    for variable in weights:
        name = "/".join(variable.path.split("/")[-2:])
        variable.assign(values.pop(name))
    assert not values


def tiny(*changes):
    return load_config(
        None,
        [
            "parity=released",
            "model.backbone=resnet50",
            f"model.classes={CLASSES - 1}",
            f"model.group_size={K}",
            f"model.pooled_size={P}",
            "model.rpn_channels=16",
            "model.head_channels=24",
            f"model.anchor_sizes={list(SIZES)}",
            "proposals.pre_nms=200",
            "proposals.train_count=30",
            "proposals.predict_count=30",
            "proposals.min_size=2",
            "predict.max_detections=20",
            *changes,
        ],
    )
