"""Weights in and out of the network."""

import json
from pathlib import Path
from typing import Any

import h5py
import keras

from fcis_tf.errors import FcisError
from fcis_tf.files import replace

# The file of a run directory that holds the weights with the best validation AP.
BEST = "best.weights.h5"
# Keras reads only the paths of its layers; this is beside them.
NOTES = "notes"


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


def save_weights(
    model: keras.Model, path: str | Path, *, notes: dict[str, Any] | None = None
) -> None:
    """Write a ``.weights.h5`` file; it appears only when it is whole.

    Args:
        model: a built model.
        path: the file.
        notes: what to write beside the weights, such as their metrics; see `load_notes`.

    Raises:
        FcisError: it cannot be written.
    """
    path = Path(path)
    partial = path.with_name("partial." + path.name)  # Keras wants the name to end so
    try:
        model.save_weights(partial)
        if notes is not None:
            with h5py.File(partial, "a") as file:
                file[NOTES] = json.dumps(notes)
        replace(partial, path)
    except OSError as fault:
        raise FcisError(f"{path}: cannot write the weights: {_line(fault)}") from None
    finally:
        partial.unlink(missing_ok=True)


def load_notes(path: str | Path) -> dict[str, Any] | None:
    """The notes of a ``.weights.h5`` file; None if it is missing, damaged or has none."""
    try:
        with h5py.File(path) as file:
            return json.loads(file[NOTES][()]) if NOTES in file else None
    except OSError:
        return None


def _line(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return text if len(text) <= 200 else text[:200] + "..."
