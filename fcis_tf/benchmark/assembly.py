"""Time of assembly, forward and backward, relative to one pass of the backbone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fcis_tf.benchmark.network import as_predicted
from fcis_tf.benchmark.timing import Seconds, take_turns
from fcis_tf.model.fcis import FCIS
from fcis_tf.ops import ps_assemble
from fcis_tf.ops.library import use_custom
from fcis_tf.structures import Tensor

BACKBONE = "backbone"
ACTIVE = 128  # ROIs with a gradient, as after hard example mining


def forward_name(impl: str, count: int) -> str:
    """Name in `measure_assembly` of the forward pass over `count` ROIs."""
    return f"{impl}, {count} ROIs, forward"


def backward_name(impl: str, count: int) -> str:
    """Name in `measure_assembly` of the forward and backward pass over `count` ROIs."""
    return f"{impl}, {count} ROIs, forward and backward"


def random_rois(count: int, image_size: Tensor, seed: int = 0) -> Tensor:
    """Boxes (1, N, 4) in an image of size (1, 2), sides log-uniform from 16 pixels to all of it."""
    random = np.random.default_rng(seed)
    limits = np.asarray(image_size[0])
    sides = np.exp(random.uniform(np.log(16.0), np.log(limits), (count, 2)))
    corners = random.uniform(0.0, 1.0, (count, 2)) * (limits - sides)
    return tf.constant(np.concatenate([corners, corners + sides], 1)[None], tf.float32)


def measure_assembly(
    model: FCIS, image: np.ndarray, rois: Sequence[int], *, rounds: int, progress: Any = None
) -> dict[str, Seconds]:
    """Seconds of assembly alone by implementation and number of ROIs, and of the backbone.

    The backward pass has a gradient for `ACTIVE` of the ROIs, spread evenly.
    """
    pixels, size, _ = as_predicted(image, model.config)
    scores = tf.function(lambda x: model(x, training=False).scores)(pixels)
    backbone = tf.function(lambda x: model.backbone(x, training=False))
    work: dict[str, Callable[[], Any]] = {BACKBONE: lambda: backbone(pixels)}
    for impl in ("custom", "stock") if use_custom() else ("stock",):
        for count in rois:
            boxes = random_rois(count, size)
            forward, backward = _graphs(model, impl, count)
            work[forward_name(impl, count)] = _call(forward, scores, boxes)
            work[backward_name(impl, count)] = _call(backward, scores, boxes)
    return take_turns(work, rounds=rounds, progress=progress)


def _graphs(model: FCIS, impl: str, count: int) -> tuple[Any, Any]:
    geometry = model.geometry | {"impl": impl}
    active = np.zeros(count, np.float32)
    active[np.linspace(0, count - 1, min(ACTIVE, count)).astype(int)] = 1.0

    def forward(scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        return ps_assemble(scores, boxes, **geometry)

    def backward(scores: Tensor, boxes: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            both = ps_assemble(scores, boxes, **geometry)
        upstream = [
            tf.ones_like(part) * tf.reshape(active, [1, count] + [1] * (len(part.shape) - 2))
            for part in both
        ]
        return tape.gradient(both, scores, upstream)

    return tf.function(forward), tf.function(backward)


def _call(graph: Any, *inputs: Any) -> Callable[[], Any]:
    return lambda: graph(*inputs)
