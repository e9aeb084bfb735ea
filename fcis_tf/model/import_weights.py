"""Pretrained weights of others: released MXNet files, ChainerCV's, and ImageNet from Keras.

Every source becomes ``{"layer/variable": array}`` with the names and layouts of this network;
`assign` then puts them into a model and names everything that does not fit (spec section 11).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fcis_tf.config import load_config
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.model.backbone import BLOCKS
from fcis_tf.model.fcis import BOX_STD, FCIS
from fcis_tf.model.mxnet_params import read_params
from fcis_tf.model.weights import BEST, load_weights, save_weights

Weights = dict[str, np.ndarray]

# Layers after the backbone; of them this one depends on the number of classes.
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
KERAS_EPSILON, OUR_EPSILON = 1.001e-5, 1e-5  # of batch normalisation
KERAS = "keras:"
NETWORKS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "resnet152": "ResNet152"}
# Anchor sides by the number of anchors of a cell (spec section 1.4).
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
        return from_keras(_download(name.removeprefix(KERAS)))
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
        ".h5": lambda: from_keras(_read_keras(path)),
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
        told = "; ".join(f"{what}: {_some(list(names))}" for what, names in faults.items() if names)
        hint = ""
        if all(key.split("/")[0] in HEADS for key in [*wrong, *absent]) and not extra:
            hint = "; --reinitialise-head (train.init does so) keeps the backbone and starts anew"
        raise FcisError(f"{source}: the weights do not fit this model; {told}{hint}")
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
    if f"{CLASS_HEAD}/bias" not in weights:
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


# ---------------------------------------------------------------- released


def from_released(params: Weights, source: str | Path) -> Weights:
    """From arrays named as in the released MXNet files (spec sections 4.1 and 11.2).

    Kernels are OIHW there; score-map channels are ((2 class + side) k + gy) k + gx, box maps
    ((4 t + delta) k + gy) k + gx of which t = 1 is used, RPN boxes 4 anchor + delta.

    Raises:
        FcisError: an array without a place here, or ``_test`` arrays that contradict the others.
    """
    arrays = {name.partition(":")[2] or name: np.asarray(v) for name, v in params.items()}
    _check_test_arrays(arrays, source)
    found = {}
    for name, value in arrays.items():
        if name.endswith("_test"):  # already multiplied by the standard deviations (spec 11.3)
            continue
        key = _our_key(name)
        if key is None:
            raise FcisError(
                f"{source}: {name}: not an array of FCIS; expected names as conv1_weight"
            )
        found[key] = value.astype(np.float32)
    if "fcis_bbox/bias" in found:
        cells = len(found["fcis_bbox/bias"]) // 8
        _reorder(found, "fcis_bbox", (2, 4, cells), lambda v: v[1, SWAP].swapaxes(0, 1))
        _reorder(found, "rpn_bbox_pred", (-1, 4), lambda v: v[:, SWAP])
        _reorder(found, CLASS_HEAD, (-1, 2, cells), lambda v: v.swapaxes(0, 2))
    return {
        key: v.transpose(2, 3, 1, 0) if key.endswith("/kernel") else v for key, v in found.items()
    }


def _reorder(found: Weights, layer: str, shape: tuple[int, ...], change: Any) -> None:
    """Rearrange the output channels, the first axis, of a layer's kernel and bias."""
    for key in (f"{layer}/kernel", f"{layer}/bias"):
        value = found[key]
        changed = change(value.reshape(*shape, *value.shape[1:]))
        found[key] = changed.reshape(-1, *value.shape[1:])


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


# ---------------------------------------------------------------- ChainerCV


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
            value = released.get(f"{layer}_{kind}")
            if value is not None:
                tail = value.shape[1:]
                grouped = order(value.reshape(*shape, *tail))
                released[f"{layer}_{kind}"] = grouped.reshape(-1, *tail)
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


def _read_npz(path: Path) -> Weights:
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError) as fault:
        raise FcisError(f"{path}: not an .npz file ({' '.join(str(fault).split())})") from None


# ---------------------------------------------------------------- keras.applications


def from_keras(model: keras.Model) -> Weights:
    """Backbone weights of a keras.applications ResNet, as the same function of an RGB image.

    Its convolutions have biases, which go into the batch normalisation's means; its first layer
    takes BGR; its epsilon is another, which goes into the variances (spec section 11.4).
    """
    found: Weights = {}
    for layer in model.layers:
        values = {v.name: v.numpy() for v in layer.weights}
        if layer.name.endswith("_conv"):
            found[f"{layer.name}/kernel"] = values["kernel"]
        elif layer.name.endswith("_bn"):
            convolution = model.get_layer(layer.name.removesuffix("bn") + "conv")
            bias = convolution.bias.numpy() if convolution.use_bias else 0.0
            found |= {f"{layer.name}/{name}": values[name] for name in ("gamma", "beta")}
            found[f"{layer.name}/moving_mean"] = values["moving_mean"] - bias
            variance = values["moving_variance"] + (KERAS_EPSILON - OUR_EPSILON)
            found[f"{layer.name}/moving_variance"] = variance
    found["conv1_conv/kernel"] = found["conv1_conv/kernel"][:, :, ::-1]
    return found


def _download(name: str) -> keras.Model:
    if name not in NETWORKS:
        raise FcisError(f"{KERAS}{name}: expected one of {', '.join(NETWORKS)} after {KERAS!r}")
    try:
        return getattr(keras.applications, NETWORKS[name])(weights="imagenet", include_top=False)
    except Exception as fault:  # Keras raises a bare Exception when a download fails
        text = " ".join(str(fault).split())[:160]
        raise FcisError(
            f"{KERAS}{name}: Keras cannot fetch the weights ({text}); download the .h5 file "
            "elsewhere and name its path"
        ) from None


def _read_keras(path: Path) -> keras.Model:
    """The keras.applications network that a ``.h5`` file belongs to, with its weights."""
    import h5py

    names: list[str] = []
    try:
        with h5py.File(path) as file:
            file.visit(names.append)
    except OSError as fault:
        raise FcisError(f"{path}: not an HDF5 file ({' '.join(str(fault).split())})") from None
    text = "\n".join(names)
    blocks = max((int(m) for m in re.findall(r"conv4_block(\d+)_", text)), default=0)
    network = next((name for name, counts in BLOCKS.items() if counts[2] == blocks), None)
    if network is None:
        raise FcisError(
            f"{path}: not a ResNet-50, -101 or -152 of keras.applications "
            f"(found {blocks} blocks conv4_block*); of a run of this project name the directory"
        )
    top = "predictions" in text
    model = getattr(keras.applications, NETWORKS[network])(weights=None, include_top=top)
    try:
        model.load_weights(path)
    except (ValueError, OSError) as fault:
        text = " ".join(str(fault).split())[:200]
        raise FcisError(f"{path}: not the weights of {NETWORKS[network]} ({text})") from None
    return model


def _key(variable: Any) -> str:
    return "/".join(variable.path.split("/")[-2:])


def _some(names: list[str], most: int = 12) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
