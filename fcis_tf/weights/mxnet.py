"""Weights in the names and layouts of the released MXNet files.

They become ``{"layer/variable": array}`` with the names and layouts of this network.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from fcis_tf.errors import FcisError
from fcis_tf.model.fcis import BOX_STD

Weights = dict[str, np.ndarray]

# Layers after the backbone; of them CLASS_HEAD depends on the number of classes.
HEADS = (
    "rpn_conv_3x3",
    "rpn_cls_score",
    "rpn_bbox_pred",
    "conv_new_1",
    "fcis_cls_seg",
    "fcis_bbox",
)
CLASS_HEAD = "fcis_cls_seg"
# Released (dx, dy, dw, dh) to our (dy, dx, dh, dw), and back.
SWAP = [1, 0, 3, 2]


def from_released(params: Weights, source: str | Path) -> Weights:
    """From arrays named as in the released MXNet files.

    Kernels are OIHW there; score-map channels are ((2 class + side) k + gy) k + gx, box maps
    ((4 t + delta) k + gy) k + gx of which t = 1 is used, RPN boxes 4 anchor + delta.

    Raises:
        FcisError: an array without a place here, or ``_test`` arrays that contradict the others.
    """
    arrays = {name.partition(":")[2] or name: np.asarray(v) for name, v in params.items()}
    _check_test_arrays(arrays, source)
    found = {}
    for name, value in arrays.items():
        # `do_checkpoint` of the released callback.py has multiplied these by the deviations.
        if name.endswith("_test"):
            continue
        key = _our_key(name)
        if key is None:
            raise FcisError(
                f"{source}: {name}: not an array of FCIS; expected names as conv1_weight"
            )
        found[key] = value.astype(np.float32)
    if "fcis_bbox/bias" in found:
        cells = len(found["fcis_bbox/bias"]) // 8
        for layer, shape, change in (
            ("fcis_bbox", (2, 4, cells), lambda v: v[1, SWAP].swapaxes(0, 1)),
            ("rpn_bbox_pred", (-1, 4), lambda v: v[:, SWAP]),
            (CLASS_HEAD, (-1, 2, cells), lambda v: v.swapaxes(0, 2)),
        ):
            for key in (f"{layer}/kernel", f"{layer}/bias"):
                if key in found:
                    found[key] = reorder(found[key], shape, change, f"{source}: {key}")
    return {
        key: v.transpose(2, 3, 1, 0) if key.endswith("/kernel") else v for key, v in found.items()
    }


def reorder(value: np.ndarray, shape: tuple[int, ...], change: Any, name: str) -> np.ndarray:
    """Rearrange the output channels, the first axis of `value`, as a grid of `shape`."""
    try:
        grid = value.reshape(*shape, *value.shape[1:])
    except ValueError:
        raise FcisError(
            f"{name}: expected channels in groups of {shape}, found the shape {value.shape}"
        ) from None
    return change(grid).reshape(-1, *value.shape[1:])


def _our_key(name: str) -> str | None:
    """``bn4b22_branch2a_moving_var`` -> ``conv4_block23_1_bn/moving_variance``."""
    kinds = {
        "weight": ("conv", "kernel"),
        "gamma": ("bn", "gamma"),
        "beta": ("bn", "beta"),
        "moving_mean": ("bn", "moving_mean"),
        "moving_var": ("bn", "moving_variance"),
    }
    match = re.fullmatch(rf"({'|'.join(HEADS)})_(weight|bias)", name)
    if match:
        return f"{match[1]}/{'kernel' if match[2] == 'weight' else 'bias'}"
    match = re.fullmatch(
        rf"(?:res|bn)([2-5])([a-z])(\d*)_branch(1|2a|2b|2c)_({'|'.join(kinds)})", name
    )
    if match:
        stage, letter, number, branch, kind = match.groups()
        block = int(number) + 1 if number else ord(letter) - ord("a") + 1
        part = ("1", "2a", "2b", "2c").index(branch)
        return f"conv{stage}_block{block}_{part}_{kinds[kind][0]}/{kinds[kind][1]}"
    match = re.fullmatch(rf"(?:bn_)?conv1_({'|'.join(kinds)})", name)
    return f"conv1_{kinds[match[1]][0]}/{kinds[match[1]][1]}" if match else None


def _check_test_arrays(arrays: Weights, source: str | Path) -> None:
    """``fcis_bbox_*_test`` must be ``fcis_bbox_*`` times the standard deviation of its delta."""
    for kind in ("weight", "bias"):
        plain, test = arrays.get(f"fcis_bbox_{kind}"), arrays.get(f"fcis_bbox_{kind}_test")
        if plain is None or test is None:
            continue
        cells = len(plain) // 8
        std = np.tile(np.repeat(BOX_STD[SWAP], cells), 2).reshape(-1, *[1] * (plain.ndim - 1))
        if (
            plain.shape != test.shape
            or np.abs(plain * std - test).max() > 1e-4 * np.abs(test).max()
        ):
            raise FcisError(
                f"{source}: fcis_bbox_{kind}_test is not fcis_bbox_{kind} times (0.2, 0.2, 0.5, "
                "0.5); the file mixes two trainings or was converted wrongly"
            )
