"""What preparing data must not load."""

import subprocess
import sys

# TensorFlow imports Keras by itself. None in sys.modules makes every later `import keras` fail.
PROGRAM = """
import importlib, pkgutil, sys
import tensorflow
sys.modules["keras"] = None
import fcis_tf.data
for module in pkgutil.walk_packages(fcis_tf.data.__path__, "fcis_tf.data."):
    importlib.import_module(module.name)
loaded = {name.split(".")[1] for name in sys.modules if name.startswith("fcis_tf.")}
print(" ".join(sorted(loaded & {"model", "weights", "training", "prediction", "evaluation"})))
"""


def test_data_need_neither_keras_nor_a_later_stage(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
