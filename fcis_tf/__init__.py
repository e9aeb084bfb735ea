"""FCIS: fully convolutional instance-aware semantic segmentation on TensorFlow.

import fcis_tf

fcis_tf.convert("labelme", "photos", out="records/train")
fcis_tf.train("configs/own.yaml", run="runs/mine", overrides=["train.steps=500"])
model = fcis_tf.load("runs/mine")
found = model.predict_image("a.jpg")
fcis_tf.evaluate("runs/mine").mask["AP"]
fcis_tf.export("runs/mine", "export/1")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcis_tf import ops as ops
    from fcis_tf.config import Config as Config
    from fcis_tf.config import load_config as load_config
    from fcis_tf.data.convert.converter import convert as convert
    from fcis_tf.errors import FcisError as FcisError
    from fcis_tf.evaluation.run import evaluate as evaluate
    from fcis_tf.instances import Instances as Instances
    from fcis_tf.labels import Labels as Labels
    from fcis_tf.model.fcis import FCIS as FCIS
    from fcis_tf.prediction.load import load as load
    from fcis_tf.prediction.predictor import Predictor as Predictor
    from fcis_tf.serving.export.export import export as export
    from fcis_tf.training.loop import train as train

__version__ = "0.1.0"

# Read on first use, so that `import fcis_tf` and `fcis --help` do not wait for TensorFlow.
_WHERE = {
    "Config": "fcis_tf.config",
    "FCIS": "fcis_tf.model.fcis",
    "FcisError": "fcis_tf.errors",
    "Instances": "fcis_tf.instances",
    "Labels": "fcis_tf.labels",
    "Predictor": "fcis_tf.prediction.predictor",
    "convert": "fcis_tf.data.convert.converter",
    "evaluate": "fcis_tf.evaluation.run",
    "export": "fcis_tf.serving.export.export",
    "load": "fcis_tf.prediction.load",
    "load_config": "fcis_tf.config",
    "train": "fcis_tf.training.loop",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name == "ops":
        return import_module("fcis_tf.ops")
    if name not in _WHERE:
        raise AttributeError(f"module 'fcis_tf' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
