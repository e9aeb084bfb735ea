"""The custom operations: load them, decide whether to use them, call them, and their gradients."""

import functools
import os
import warnings
from typing import Any, NamedTuple

import tensorflow as tf

from fcis_tf.errors import FcisError
from fcis_tf.ops.build import BuildError, build
from fcis_tf.structures import Tensor

CHOICES = ("auto", "stock", "custom")


class Library(NamedTuple):
    """The loaded operations, or why there are none."""

    operations: Any  # module of raw operations, None without a library
    path: str
    fault: str


@functools.cache
def load() -> Library:
    """Build the library if there is none, and load it, once in a process."""
    try:
        path = str(build())
        operations = tf.load_op_library(path)
    except (BuildError, tf.errors.OpError) as fault:
        return Library(None, "", str(fault))
    return Library(operations, path, "")


def use_custom(impl: str = "auto") -> bool:
    """Whether to use the custom operations.

    Args:
        impl: "custom" or "stock"; "auto" leaves the choice to the environment variable
            ``FCIS_OPS``, and without that uses the custom operations if they can be built.

    Raises:
        FcisError: "custom" is requested but not available, or the choice is none of the three.
    """
    choice = os.environ.get("FCIS_OPS", "auto") if impl == "auto" else impl
    if choice not in CHOICES:
        name = "FCIS_OPS" if impl == "auto" else "impl"
        raise FcisError(f"{name}: expected one of {', '.join(CHOICES)}, found {choice!r}")
    if choice == "stock":
        return False
    library = load()
    if library.operations is None:
        if choice == "custom":
            raise FcisError(f"the custom operations were requested: {library.fault}")
        _warn_once(f"using stock operations, which are slower: {library.fault}")
        return False
    if "-cpu-" in library.path and tf.config.list_logical_devices("GPU"):
        text = "the custom operations were built without nvcc and would run on the CPU"
        if choice == "auto":
            _warn_once(f"using stock operations on the GPU: {text}; install the CUDA toolkit")
            return False
    return True


def ps_assemble(
    maps: Tensor, rois: Tensor, image_index: Tensor, labels: Tensor, **geometry: int
) -> tuple[Tensor, Tensor]:
    """Class logits (R, K) and mask logits (R, p, p, 2); arguments as `stock.ps_assemble`."""
    found = load().operations.fcis_ps_assemble(
        maps=maps, rois=rois, image_index=image_index, labels=labels, **geometry
    )
    return found.class_logits, found.mask_logits


def ps_average(maps: Tensor, rois: Tensor, image_index: Tensor, **geometry: int) -> Tensor:
    """Means (R, D); arguments as `stock.ps_average`."""
    return load().operations.fcis_ps_average(
        maps=maps, rois=rois, image_index=image_index, **geometry
    )


@tf.RegisterGradient("FcisPsAssemble")
def _ps_assemble_gradient(
    op: Any, class_gradient: Tensor, mask_gradient: Tensor, _: Tensor
) -> list[Tensor | None]:
    """The gradient of the maps from those of class_logits and mask_logits; chosen has none."""
    maps, rois, image_index, _ = op.inputs
    gradient = load().operations.fcis_ps_assemble_grad(
        maps=maps,
        rois=rois,
        image_index=image_index,
        chosen=op.outputs[2],
        class_gradient=class_gradient,
        mask_gradient=mask_gradient,
        **_geometry(op),
    )
    return [gradient, None, None, None]


@tf.RegisterGradient("FcisPsAverage")
def _ps_average_gradient(op: Any, upstream: Tensor) -> list[Tensor | None]:
    maps, rois, image_index = op.inputs
    gradient = load().operations.fcis_ps_average_grad(
        maps=maps, rois=rois, image_index=image_index, gradient=upstream, **_geometry(op)
    )
    return [gradient, None, None]


def _geometry(op: Any) -> dict[str, int]:
    return {name: op.get_attr(name) for name in ("group_size", "pooled_size", "stride")}


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=3)
