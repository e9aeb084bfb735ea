"""FCIS: fully convolutional instance-aware semantic segmentation on TensorFlow."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Read on first use, so that `import fcis_tf` and `fcis --help` do not wait for TensorFlow.
_WHERE = {
    "Config": "fcis_tf.config",
    "load_config": "fcis_tf.config",
    "FcisError": "fcis_tf.errors",
    "Labels": "fcis_tf.labels",
    "FCIS": "fcis_tf.model.fcis",
    "load_weights": "fcis_tf.weights.weight_files",
    "load_run": "fcis_tf.prediction.load",
    "load_predictor": "fcis_tf.prediction.load",
    "predict": "fcis_tf.prediction.load",
    "Predictor": "fcis_tf.prediction.predictor",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name == "ops":
        return import_module("fcis_tf.ops")
    if name not in _WHERE:
        raise AttributeError(f"module 'fcis_tf' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
