"""Weights in and out of the network."""

from pathlib import Path

import keras

from fcis_tf.errors import FcisError

# The file of a run directory that holds the weights with the best validation AP.
BEST = "best.weights.h5"


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Load a run's best weights or a ``.weights.h5`` file into a built model.

    Args:
        model: a built `FCIS`.
        path: a run directory or a file.

    Raises:
        FcisError: nothing there, not a weight file, or weights of another configuration.
    """
    path = Path(path)
    file = path / BEST if path.is_dir() else path
    if not file.exists():
        raise FcisError(f"{file}: no such weights; train first or name a .weights.h5 file")
    try:
        model.load_weights(file)
    except OSError as fault:
        raise FcisError(f"{file}: not a Keras weight file ({_line(fault)})") from None
    except ValueError as fault:
        raise FcisError(
            f"{file}: these weights belong to another model configuration ({_line(fault)})"
        ) from None


def save_weights(model: keras.Model, path: str | Path) -> None:
    """Write a ``.weights.h5`` file; it appears only when it is whole."""
    path = Path(path)
    partial = path.with_name("partial." + path.name)
    try:
        model.save_weights(partial)
        partial.replace(path)
    except OSError as fault:
        partial.unlink(missing_ok=True)
        raise FcisError(f"{path}: cannot write the weights: {_line(fault)}") from None


def _line(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return text if len(text) <= 200 else text[:200] + "..."
