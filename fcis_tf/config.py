"""Typed, frozen, strict configuration: YAML with ``extends``, and dotted overrides.

The defaults are the paper's COCO setting (ResNet-101, OHEM). A YAML file states only what differs;
``extends: other.yaml`` (relative to the file) is read first, then ``parity: released`` (or
``best``), which stands for the values in `RELEASED`. Functions take the frozen section that
they need, such as a `DataConfig`, and not its values one by one.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fcis_tf.errors import FcisError
from fcis_tf.files import write_whole

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """One block of the file. Unknown keys and wrong types are errors; nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class DataConfig(Section):
    """Where the records are and how an image becomes a network input (paper section 4)."""

    train: str | None = None  # folder of training records, as `fcis convert` writes it
    validation: str | None = None  # folder of validation records
    labels: str | None = None  # labels.json or COCO json; by default the records' own labels.json
    short_sides: tuple[Positive, ...] = (600,)  # of training; one is drawn for every image
    long_side: Positive = 1000  # cap on the longer side for a shorter side of short_sides[0]
    factors: tuple[float, ...] | None = None  # resize by a factor drawn from these instead
    validation_short_side: Positive = 600
    validation_long_side: Positive = 1000
    validation_factor: float | None = None  # resize by this factor instead
    crop: Positive | None = None  # side of the random training window (paper: 600)
    crop_from: Positive = 864  # crop images whose resized shorter side is at least this
    flip: bool = True
    turn: bool = (
        False  # quarter turns and mirroring up to down too: microscopy, pictures from above
    )
    scale_jitter: tuple[float, float] | None = None  # a random factor on top (large-scale jitter)
    color_jitter: Fraction = 0.0  # largest relative change of brightness and contrast in training
    mask_size: Positive = 112  # side of the box-frame masks, M
    max_instances: Positive = 100  # ground-truth slots of an image, G at most
    aspect_grouping: bool = True
    shuffle_buffer: Positive = 1024
    cache: bool = False  # keep decoded examples in memory (small data sets)
    resize: Literal["exact", "released"] = "exact"  # released: 8-bit pixels, rounded boxes
    service: str | None = None  # tf.data service that makes training batches, grpc://HOST:PORT


class ModelConfig(Section):
    """The network (paper section 2)."""

    backbone: Literal["resnet50", "resnet101", "resnet152", "small"] = "resnet101"
    norm: Literal["frozen_batch", "group", "sync_batch"] = "frozen_batch"
    output_stride: Literal[8, 16] = 16
    classes: Positive | None = None  # foreground classes C; by default counted from the labels
    group_size: Positive = 7  # k
    pooled_size: Positive = 21  # p
    score_maps: Literal["joint", "separate"] = "joint"  # separate: an ablation (paper Table 1)
    rpn_channels: Positive = 512
    head_channels: Positive = 1024  # conv_new_1
    anchor_sizes: tuple[float, ...] = (64, 128, 256, 512)  # network pixels at ratio 1
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    head_init: Literal["released", "he"] = "released"  # hidden head kernels: N(0, 0.01) or He


class ProposalConfig(Section):
    """From RPN outputs to ROIs (paper section 2.3; released `PROPOSAL` settings, `rpn.py`)."""

    pre_nms: Positive = 6000
    train_count: Positive = 300
    predict_count: Positive = 300
    nms_threshold: Fraction = 0.7
    min_size: float = 2.0  # network pixels
    grid: Literal["full", "released"] = "full"  # released: without the last, partial row and column


class TrainConfig(Section):
    """Targets, losses and optimisation (paper section 2.3, "Training")."""

    init: str | None = None  # weights to start from, as `fcis import-weights` takes or makes them
    freeze: Annotated[int, Field(ge=0, le=5)] | None = (
        None  # stages of the backbone, from conv1, that do not train; 2 with frozen_batch, else 0
    )
    steps: Positive = 240_000
    batch_size: Positive = 1  # images per device and step
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 5e-4  # sgd: per image, gradients are summed over images; adam: as it is
    momentum: Fraction = 0.9
    weight_decay: float = 5e-4  # L2 through momentum (sgd); decoupled (adam)
    schedule: Literal["steps", "cosine"] = "steps"
    drops: tuple[float, ...] = (2 / 3,)  # fractions of `steps` at which the rate is multiplied
    drop_factor: float = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 250
    warmup_factor: Fraction = 0.1
    clip_norm: float | None = None  # of the whole gradient, after it is summed over devices
    ema: Fraction = 0.0  # decay of the weight average that is evaluated and exported; 0 is none
    # Of convolutions. auto: bfloat16 where the device is fast at it, else float32. float16 scales
    # its loss.
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    sampling: Literal["ohem", "random"] = "ohem"
    roi_batch: Positive = 128  # ROIs with a loss per image
    roi_foreground: Fraction = 0.25  # most of them that may be foreground (random sampling)
    roi_positive_iou: Fraction = 0.5
    roi_background_iou: Fraction = 0.0  # least IoU of a background ROI
    roi_top_up: bool = False  # fill a short random sample with any ROI, labelled background
    accumulate: Positive = 1  # batches whose gradients are summed for one step
    steps_per_call: Positive = 1  # steps of one call of TensorFlow; more cost less Python
    rpn_batch: Positive = 256
    rpn_foreground: Fraction = 0.5
    rpn_positive_iou: Fraction = 0.7
    rpn_negative_iou: Fraction = 0.3
    mask_weight: float = 10.0
    seed: int = 3
    deterministic: bool = False  # the same bits in every run on the same devices; slower on GPUs
    log_every: Positive = 20  # steps
    evaluate_every: Positive = 10_000  # steps; the last step is always evaluated
    evaluate_images: Positive | None = None  # at most so many during training; default all
    patience: Positive | None = None  # stop after so many evaluations without a better mask AP
    checkpoint_every: Positive = 2_000  # steps
    keep_checkpoints: Positive = 2
    pictures: Annotated[int, Field(ge=0)] = 4  # predictions drawn in TensorBoard an evaluation


class PredictConfig(Section):
    """From heads to detections (paper section 2.3, "Inference")."""

    batch_size: Positive = 1
    # Of convolutions; null as in training.
    precision: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    flip: bool = False  # average with the mirror image (paper section 4.2)
    turn: bool = False  # average all eight ways to lay the image down
    # Sizes of the image relative to the validation size. The paper's six shorter sides over 600 are
    # [0.8, 0.96, 1.147, 1.44, 2.0, 2.333].
    scales: tuple[PositiveFloat, ...] | None = None
    scale_side: PositiveFloat = 224.0  # a ROI is read where its area is closest to this squared
    ensemble: tuple[str, ...] = ()  # other runs of the same classes whose networks answer too
    tile: Positive | None = None  # side of the windows that a larger image is cut into
    tile_overlap: Positive = 64  # least overlap of neighbouring windows, original pixels
    iterations: Literal[1, 2] = 2
    min_size: float = 2.0  # network pixels
    nms_threshold: Fraction = 0.3
    max_detections: Positive = 100
    score_threshold: Fraction = 1e-3
    vote_iou: Fraction = 0.5
    mask_threshold: Fraction = 0.4
    mask_size: Positive = 112  # side of the voted masks
    voting: Literal["soft", "binary", "none", "released", "released_cpu"] = "soft"
    maskness: bool = False  # multiply scores by the mean vote inside each mask


PARITY = "parity"
# What ``parity: released`` sets: the spots where the default is better than the released code and
# so not equal to it. docs/deviations.md has the measured effect of each.
RELEASED: dict[str, dict[str, Any]] = {
    "data": {"resize": "released"},
    "proposals": {"grid": "released"},
    "train": {"roi_top_up": True},
    "predict": {"voting": "released"},
}


class Config(Section):
    """Everything a run needs; saved with it as ``config.yaml``."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    proposals: ProposalConfig = ProposalConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.model.pooled_size < self.model.group_size:
            raise ValueError("model.pooled_size must be at least model.group_size")
        tile = self.predict.tile
        if tile is not None and self.predict.tile_overlap >= tile:
            raise ValueError("predict.tile_overlap must be less than predict.tile")
        return self

    def save(self, path: str | Path) -> None:
        """Write the resolved configuration, defaults included."""
        write_whole(Path(path), yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, what it extends, and ``section.key=value`` overrides.

    Raises:
        FcisError: a missing file, a file that is not YAML, an unknown key (the nearest valid one
            is named) or a value of the wrong type.
    """
    values = _read(Path(path), ()) if path else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise FcisError(f"override {override!r}: expected section.key=value")
        value = _parse(text, override)
        part = _parity(value) if key == PARITY else _nested(key.strip().split("."), value)
        values = _merge(values, part)
    try:
        return Config.model_validate(values)
    except ValidationError as fault:
        raise FcisError(f"{path or 'configuration'}: {_describe(fault)}") from None


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise FcisError(f"{path}: extends itself")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise FcisError(f"{path}: no such configuration file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise FcisError(f"{path}: not YAML: {' '.join(str(fault).split())}") from None
    if not isinstance(values, dict):
        raise FcisError(f"{path}: expected sections of key: value, found {type(values).__name__}")
    parent, parity = values.pop("extends", None), values.pop(PARITY, None)
    base = {} if parent is None else _read(path.parent / str(parent), (*above, path.resolve()))
    if parity is not None:
        base = _merge(base, _parity(parity, f"{path}: "))
    return _merge(base, values)


def _parity(name: Any, source: str = "") -> dict[str, Any]:
    """The values that a parity stands for."""
    if name == "released":
        return RELEASED
    if name == "best":
        default = Config().model_dump()
        return {part: {key: default[part][key] for key in RELEASED[part]} for part in RELEASED}
    raise FcisError(f"{source}{PARITY}: expected 'released' or 'best', found {name!r}")


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if keys[1:] else value}


def _parse(text: str, override: str) -> Any:
    """YAML, so that numbers, lists and null read as in a file; ``1e-3`` is a number here."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise FcisError(f"override {override!r}: the value is not YAML") from None
    return value


def _describe(fault: ValidationError) -> str:
    """The first error in one line; unknown keys come before wrong values."""
    error = min(fault.errors(), key=lambda error: error["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in error["loc"]) or "configuration"
    found = f", found {error['input']!r}" if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        sections = Config().model_dump()
        known = [*sections, *(f"{name}.{k}" for name, part in sections.items() for k in part)]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        return f"unknown key {key!r}; the nearest valid key is {near[0]!r}"
    if error["type"] == "model_type":
        return f"{key}: expected a section of key: value{found}"
    return f"{key}: {error['msg']}{found}"
