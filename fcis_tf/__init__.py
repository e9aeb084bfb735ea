"""FCIS: fully convolutional instance-aware semantic segmentation on TensorFlow.

    import fcis_tf

    fcis_tf.convert("labelme", "photos", out="records/train")
    fcis_tf.train("configs/own.yaml", run="runs/mine", overrides=["train.steps=500"])
    model = fcis_tf.load("runs/mine")
    found = model.predict_image("a.jpg")
    fcis_tf.evaluate("runs/mine").mask["AP"]
    fcis_tf.export("runs/mine", "export/1")

The public names are listed in ``__init__.pyi``. Each is imported on first use, so that `import
fcis_tf` and `fcis --help` do not wait for TensorFlow.
"""

from importlib import import_module
from typing import Any

import lazy_loader

__version__ = "0.1.0"

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "FCIS":
        # `keras.saving.load_model` finds a class by its registration, which is made on import: a
        # compiled network comes with its losses and optimizer.
        import_module("fcis_tf.training.fit")
        import_module("fcis_tf.training.optimizer")
    return _public(name)
