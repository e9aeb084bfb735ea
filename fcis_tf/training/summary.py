"""What a run says before it starts."""

import json
import math
from pathlib import Path
from typing import Any

import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.precision import describe_precision

SHOWN = 8  # class names


def summary(
    config: Config, labels: Labels, model: FCIS, strategy: tf.distribute.Strategy, start: int
) -> str:
    """Devices, data, classes, weights and steps of a run, a line each.

    Args:
        config: of the run.
        labels: the classes.
        model: built.
        strategy: its devices.
        start: steps taken before.
    """
    train = config.train
    replicas = strategy.num_replicas_in_sync
    images = replicas * train.batch_size * train.accumulate
    times = f", {train.accumulate} times a step" if train.accumulate > 1 else ""
    kinds = {
        tf.DeviceSpec.from_string(name).device_type for name in strategy.extended.worker_devices
    }
    names = ", ".join(labels.names[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")
    epochs = ""
    count = _report(config.data.train).get("images")
    if count:
        epochs = f", {train.steps * images / count:.1f} times all training images"
    rows = {
        "model": f"{config.model.backbone}, stride {config.model.output_stride}, "
        f"{_millions(model.trainable_weights)} weights trained, "
        f"{_millions(model.non_trainable_weights)} frozen",
        "compute": describe_precision(train.precision),
        "data": _size(config.data.train),
        "checked": _size(config.data.validation) if config.data.validation else "not evaluated",
        "classes": f"{len(labels)}: {names}",
        "devices": f"{replicas} {'/'.join(sorted(kinds))}, {train.batch_size} images each{times}",
        "steps": f"{start} of {train.steps} taken, {images} images a step{epochs}",
    }
    return "\n".join(f"{name:8} {text}" for name, text in rows.items())


def _millions(weights: list[Any]) -> str:
    return f"{sum(math.prod(w.shape) for w in weights) / 1e6:.2f} M"


def _report(folder: str | None) -> dict[str, Any]:
    """What `fcis convert` counted; empty for records of other writers."""
    path = Path(folder or "") / "report.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _size(folder: str | None) -> str:
    report = _report(folder)
    if not report:
        return f"{folder}"
    return f"{folder}, {report['images']} images, {report['instances']} instances"
