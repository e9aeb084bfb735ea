"""Files of an export besides the graph: labels, model card, warm-up requests, batching."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from fcis_tf import __version__
from fcis_tf.config import Config
from fcis_tf.files import write_whole
from fcis_tf.labels import Labels
from fcis_tf.model.precision import resolve_precision
from fcis_tf.serving.client.messages import PredictionLog, predict_request

EXTRA = "assets.extra"
WARM_UP = "tf_serving_warmup_requests"
MODEL_NAME = "fcis"
BATCHING = """\
max_batch_size { value: 8 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 64 }
"""


def write_extras(
    folder: Path, config: Config, labels: Labels, metrics: dict[str, Any] | None, card: dict
) -> None:
    """Write labels, configuration, model card and warm-up requests into a version folder."""
    extra = folder / EXTRA
    extra.mkdir(exist_ok=True)
    labels.save(extra / "labels.json")
    config.save(extra / "config.yaml")
    write_whole(extra / "model_card.json", json.dumps(card | {"metrics": metrics}, indent=1) + "\n")
    write_whole(extra / "MODEL_CARD.md", model_card(labels, metrics, card))
    write_warm_up(extra / WARM_UP, warm_up_sizes(config))


def write_batching(base: Path) -> None:
    """Write ``batching_parameters.txt`` beside the version folders, unless there is one."""
    path = base / "batching_parameters.txt"
    if not path.exists():
        write_whole(path, BATCHING)


def describe(config: Config, *, max_pixels: int, upright: bool) -> dict[str, Any]:
    """The settings in the model card."""
    predict, data = config.predict, config.data
    return {
        "software": f"fcis_tf {__version__}, TensorFlow {tf.__version__}",
        "backbone": config.model.backbone,
        "precision": resolve_precision(predict.precision or config.train.precision),
        "input": {
            "short_side": data.validation_short_side,
            "long_side": data.validation_long_side,
            "factor": data.validation_factor,
            "resize": data.resize,
            "max_pixels": max_pixels,
            "exif_applied": upright,
        },
        "flip": predict.flip,
        "max_detections": predict.max_detections,
        "score_threshold": predict.score_threshold,
        "mask_threshold": predict.mask_threshold,
        "mask_size": predict.mask_size,
        "training_data": data.train,
        "validation_data": data.validation,
    }


def model_card(labels: Labels, metrics: dict[str, Any] | None, card: dict[str, Any]) -> str:
    """The card as Markdown."""
    lines = ["# Model card", "", "FCIS instance segmentation (CVPR 2017).", ""]
    lines += ["| setting | value |", "|---|---|"]
    lines += [f"| {key.replace('_', ' ')} | {_said(value)} |" for key, value in card.items()]
    lines += ["", "## Classes", "", ", ".join(labels.names), "", "## Metrics", ""]
    if metrics is None:
        return "\n".join([*lines, "None: the run has no metrics.json."]) + "\n"
    lines += [
        f"Validation, at step {metrics.get('step')}.",
        "",
        "| | mask | box |",
        "|---|---|---|",
    ]
    mask, box = metrics.get("mask", {}), metrics.get("box", {})
    lines += [f"| {name} | {mask[name]:.3f} | {box.get(name, -1):.3f} |" for name in mask]
    return "\n".join([*lines, "", "-1: there are no objects of this size."]) + "\n"


def warm_up_sizes(config: Config) -> list[tuple[int, int]]:
    """Heights and widths of the warm-up images: landscape, portrait, square."""
    short, long = config.data.validation_short_side, config.data.validation_long_side
    return list(dict.fromkeys([(short, long), (long, short), (short, short)]))


def write_warm_up(path: Path, sizes: list[tuple[int, int]]) -> None:
    """A TFRecord of PredictionLog, which TensorFlow Serving replays before it accepts requests.

    Every size is sent to each signature that takes files, alone and as a batch of two.
    """
    noise = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for height, width in sizes:
            pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
            file = tf.io.encode_jpeg(pixels).numpy()
            for signature in ("serving_default", "compact"):
                for files in ([file], [file, file]):
                    log = PredictionLog()
                    request = predict_request(MODEL_NAME, signature, files)
                    log.predict_log.request.CopyFrom(request)
                    writer.write(log.SerializeToString())


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_said(one)}" for key, one in value.items())
    return {None: "none", True: "yes", False: "no"}.get(value, str(value))
