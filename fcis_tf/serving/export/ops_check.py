"""Check that a stock TensorFlow Serving has all operations of an exported model."""

from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from fcis_tf.errors import FcisError

# Operations that TensorFlow itself registers, without those of libraries loaded later.
REGISTERED = frozenset(name for name in dir(tf.raw_ops) if not name.startswith("__"))
# Registered, but they call back into the Python process that made the graph.
PYTHON_ONLY = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


def used_operations(saved_model: Path) -> dict[str, set[str]]:
    """The operations of a version folder: name -> functions that use it ("" is the graph).

    Raises:
        FcisError: there is no SavedModel.
    """
    try:
        content = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    except FileNotFoundError:
        raise FcisError(f"{saved_model}: not a SavedModel (no saved_model.pb)") from None
    found: dict[str, set[str]] = {}
    for meta in content.meta_graphs:
        functions = {one.signature.name: one.node_def for one in meta.graph_def.library.function}
        for place, nodes in {"": meta.graph_def.node, **functions}.items():
            for node in nodes:
                if node.op not in functions:
                    found.setdefault(node.op, set()).add(place)
    return found


def check_operations(saved_model: Path) -> list[str]:
    """The sorted operations of a version folder, all of which a stock server has.

    Raises:
        FcisError: there is no SavedModel, or a stock server lacks some of its operations.
    """
    used = used_operations(saved_model)
    lacking = sorted(name for name in used if name not in REGISTERED or name in PYTHON_ONLY)
    if lacking:
        where = ", ".join(f"{name} in {sorted(used[name])[0] or 'the graph'}" for name in lacking)
        raise FcisError(
            f"{saved_model}: a stock tensorflow_model_server does not have {where}; "
            "export with stock operations"
        )
    return sorted(used)
