"""Pretrained weights of others: released MXNet files, ChainerCV's, and ImageNet from Keras.

Every source becomes ``{"layer/variable": array}`` with the names and layouts of this network;
`assign` then puts them into a model and names everything that does not fit.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcis_tf.config import load_config
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.model.backbone import BLOCKS
from fcis_tf.model.fcis import FCIS
from fcis_tf.weights.chainercv import from_chainercv
from fcis_tf.weights.keras_applications import NETWORKS, download, from_keras, read_file
from fcis_tf.weights.mxnet import CLASS_HEAD, HEADS, Weights, from_released
from fcis_tf.weights.mxnet_params import read_params
from fcis_tf.weights.weight_files import BEST, load_weights, save_weights

KERAS = "keras:"  # before the name of a network that Keras downloads
# Anchor sides by the number of anchors of a cell, in the released COCO and VOC configurations.
ANCHOR_SIZES = {9: [128, 256, 512], 12: [64, 128, 256, 512]}


def read_weights(source: str | Path) -> Weights:
    """Weights of any source as ``{"layer/variable": array}``.

    Args:
        source: a ``.params`` file of the released code; ChainerCV's ``.npz``; a ``.h5`` of
            keras.applications; ``keras:resnet101``, which Keras downloads; or a run directory.

    Raises:
        FcisError: nothing there, an unknown kind of file, or a damaged one.
    """
    name, path = str(source), Path(source)
    if name.startswith(KERAS):
        return from_keras(download(name.removeprefix(KERAS)))
    if not path.exists():
        raise FcisError(
            f"{source}: no such weights; name a .params, .npz or .h5 file, a run directory, or "
            f"one of {', '.join(KERAS + network for network in NETWORKS)}"
        )
    if path.is_dir():
        model = FCIS.from_config(load_config(path / "config.yaml"))
        load_weights(model, path)
        return {_key(v): v.numpy() for v in model.weights}
    readers = {
        ".params": lambda: from_released(read_params(path), path),
        ".npz": lambda: from_chainercv(_read_npz(path), path),
        ".h5": lambda: from_keras(read_file(path)),
    }
    if path.suffix not in readers:
        raise FcisError(f"{source}: expected a .params, .npz or .h5 file, found {path.suffix!r}")
    return readers[path.suffix]()


def assign(model: FCIS, weights: Weights, source: str, *, fresh_head: bool = False) -> list[str]:
    """Put weights into a model.

    Args:
        model: built.
        weights: of `read_weights`.
        source: for messages.
        fresh_head: layers after the backbone that `weights` do not have, and the score maps of
            another number of classes, keep their initial values.

    Returns:
        The layers that kept them.

    Raises:
        FcisError: arrays are missing, left over or of another shape; all are named.
    """
    variables = {_key(v): v for v in model.weights}
    layers = {key.split("/")[0] for key in weights}
    kept = [name for name in HEADS if fresh_head and name not in layers]
    wrong = {
        key: f"{key} (expected {tuple(v.shape)}, found {weights[key].shape})"
        for key, v in variables.items()
        if key in weights and tuple(v.shape) != weights[key].shape
    }
    if fresh_head and wrong and all(key.startswith(CLASS_HEAD + "/") for key in wrong):
        kept, wrong = [*kept, CLASS_HEAD], {}
    absent = [key for key in variables if key not in weights and key.split("/")[0] not in kept]
    extra = [key for key in weights if key not in variables]
    if wrong or absent or extra:
        faults = {"missing": absent, "not in this model": extra, "of another shape": wrong.values()}
        listed = "; ".join(
            f"{what}: {_some(list(names))}" for what, names in faults.items() if names
        )
        hint = ""
        if all(key.split("/")[0] in HEADS for key in [*wrong, *absent]) and not extra:
            hint = "; --reinitialise-head (train.init does so) keeps the backbone and starts anew"
        raise FcisError(f"{source}: the weights do not fit this model; {listed}{hint}")
    for key, variable in variables.items():
        if key.split("/")[0] not in kept:
            variable.assign(weights[key])
    return kept


def describe(weights: Weights) -> dict[str, Any]:
    """The values of the ``model`` section that follow from the shapes of some weights."""
    blocks = max(int(m[1]) for key in weights if (m := re.match(r"conv4_block(\d+)_", key)))
    found: dict[str, Any] = {
        "backbone": next((name for name, counts in BLOCKS.items() if counts[2] == blocks), None)
    }
    if any(f"{layer}/bias" not in weights for layer in HEADS):
        return found
    cells = len(weights["fcis_bbox/bias"]) // 4
    anchors = len(weights["rpn_cls_score/bias"]) // 2
    found["group_size"] = round(cells**0.5)
    found["classes"] = len(weights[f"{CLASS_HEAD}/bias"]) // (2 * cells) - 1
    found["rpn_channels"] = len(weights["rpn_conv_3x3/bias"])
    found["head_channels"] = len(weights["conv_new_1/bias"])
    if anchors in ANCHOR_SIZES:
        found["anchor_sizes"] = ANCHOR_SIZES[anchors]
    return found


def import_run(
    source: str,
    run: Path,
    *,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    labels: Path | None = None,
    fresh_head: bool = False,
) -> list[str]:
    """Make a run directory out of pretrained weights, for all commands that take ``--run``.

    Args:
        source: as in `read_weights`.
        run: the directory; must not hold a run.
        config: what else the run's configuration says; `describe` fills the rest.
        overrides: ``section.key=value``.
        labels: the classes; by default COCO's for 80 classes and VOC's for 20, COCO's too where the
            weights do not say how many.
        fresh_head: as in `assign`; always so for weights of a backbone.

    Returns:
        The layers that have their initial values.

    Raises:
        FcisError: as `read_weights` and `assign`, `run` is in use, or the classes are not known.
    """
    if (run / "config.yaml").exists():
        raise FcisError(f"{run}: holds a run already; name another --out")
    weights = read_weights(source)
    known = describe(weights)
    if fresh_head:
        known.pop("classes", None)
    settings = load_config(config, overrides)
    stated = settings.model.model_fields_set
    model = {key: value for key, value in known.items() if key not in stated and value is not None}
    classes = model.get("classes", settings.model.classes)
    found = Labels.load(labels) if labels else Labels.known(classes)
    model["classes"] = len(found)
    settings = load_config(config, [*overrides, *(f"model.{k}={v}" for k, v in model.items())])
    network = FCIS.from_config(settings)
    backbone_only = f"{CLASS_HEAD}/bias" not in weights
    fresh = assign(network, weights, source, fresh_head=fresh_head or backbone_only)
    run.mkdir(parents=True, exist_ok=True)
    save_weights(network, run / BEST)
    found.save(run / "labels.json")
    settings.save(run / "config.yaml")  # last: it marks the directory as a run
    return fresh


def _read_npz(path: Path) -> Weights:
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError) as fault:
        raise FcisError(f"{path}: not an .npz file ({' '.join(str(fault).split())})") from None


def _key(variable: Any) -> str:
    return "/".join(variable.path.split("/")[-2:])


def _some(names: list[str], most: int = 12) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
