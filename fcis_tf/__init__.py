"""FCIS: fully convolutional instance-aware semantic segmentation on TensorFlow."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# Read on first use, so that `import fcis_tf` and `fcis --help` do not wait for TensorFlow.
_WHERE = {
    "Config": "fcis_tf.config",
    "load_config": "fcis_tf.config",
    "FcisError": "fcis_tf.errors",
    "Labels": "fcis_tf.labels",
    "FCIS": "fcis_tf.model.fcis",
    "load_weights": "fcis_tf.model.weights",
    "load_run": "fcis_tf.predict",
    "predict": "fcis_tf.predict",
    "Predictor": "fcis_tf.predict",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name == "ops":
        return import_module("fcis_tf.ops")
    if name not in _WHERE:
        raise AttributeError(f"module 'fcis_tf' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


class _Package(ModuleType):
    """`fcis_tf.predict` is the function; importing the submodule must not put itself there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "predict" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
