"""Time of the training step and its parts, with hard example mining and random sampling."""

from typing import Any

import numpy as np
import tensorflow as tf

from fcis_tf.benchmark.assembly import random_rois
from fcis_tf.benchmark.network import as_predicted
from fcis_tf.benchmark.timing import Seconds, take_turns
from fcis_tf.config import TrainConfig
from fcis_tf.model.fcis import FCIS
from fcis_tf.structures import Tensor
from fcis_tf.training.optimizer import build_optimizer
from fcis_tf.training.step import compute_losses, compute_targets

OHEM, RANDOM = "whole step, hard examples", "whole step, random sampling"
INSTANCES = 8  # in the image, about as many as in COCO


def random_batch(model: FCIS, image: np.ndarray, seed: int = 0) -> dict[str, Tensor]:
    """A `batch` dictionary of one image with `INSTANCES` ellipses; see structures.py."""
    pixels, size, scale = as_predicted(image, model.config)
    side = model.config.data.mask_size
    place = (np.arange(side) + 0.5) / side * 2.0 - 1.0
    ellipse = np.where(np.hypot(place[:, None], place) < 1.0, 255, 0).astype(np.uint8)
    labels = np.random.default_rng(seed).integers(1, model.classes + 1, (1, INSTANCES))
    return {
        "image": pixels,
        "image_size": size,
        "scale": scale,
        "boxes": random_rois(INSTANCES, size, seed),
        "labels": tf.constant(labels, tf.int32),
        "masks": tf.constant(np.repeat(ellipse[None, None], INSTANCES, 1)),
        "image_id": tf.constant(["noise"]),
        "original_size": tf.constant([image.shape[:2]], tf.int32),
        "seed": tf.constant([[seed, 0]], tf.int32),
    }


def measure_training(
    model: FCIS, image: np.ndarray, *, rounds: int, progress: Any = None
) -> dict[str, Seconds]:
    """Seconds of the parts of a step, and of whole steps, with `OHEM` and with `RANDOM` sampling.

    "forward" is the maps, proposals and assembly; "targets" labels anchors and ROIs; "backward" is
    the additional time of losses and gradients; "update" is the optimiser. The weights change.
    """
    train = model.config.train
    batch = random_batch(model, image)
    variables = model.trainable_variables
    optimizer = build_optimizer(train)
    optimizer.build(variables)
    rois = tf.function(lambda: _targets(model, batch, train))()

    def forward() -> Any:
        maps = model(batch["image"], training=True)
        proposals = model.propose(maps, batch["image_size"], training=True)
        return proposals, model.score_rois(maps, rois.rois, rois.labels)

    def gradients(settings: TrainConfig) -> list[Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            total = tf.add_n(list(compute_losses(model, batch, settings).values()))
        return tape.gradient(total, [variable.value for variable in variables])

    def step(settings: TrainConfig) -> Any:
        return tf.function(lambda: optimizer.apply(gradients(settings), variables))

    maps = model(batch["image"], training=True)
    proposals = model.propose(maps, batch["image_size"], training=True)
    targets = tf.function(lambda: compute_targets(model, maps, proposals, batch, train))
    differentiate = tf.function(lambda: gradients(train))
    fixed = differentiate()
    taken = take_turns(
        {
            "forward": tf.function(forward),
            "targets": targets,
            "gradients": differentiate,
            "update": tf.function(lambda: optimizer.apply(fixed, variables)),
            OHEM: step(train.model_copy(update={"sampling": "ohem"})),
            RANDOM: step(train.model_copy(update={"sampling": "random"})),
        },
        rounds=rounds,
        progress=progress,
    )
    forwards, labelling = taken["forward"], taken["targets"]
    return {
        "forward": forwards,
        "targets": labelling,
        "backward": taken["gradients"] - forwards - labelling,
        "update": taken["update"],
        OHEM: taken[OHEM],
        RANDOM: taken[RANDOM],
    }


def _targets(model: FCIS, batch: dict[str, Tensor], train: TrainConfig) -> Any:
    maps = model(batch["image"], training=True)
    proposals = model.propose(maps, batch["image_size"], training=True)
    return compute_targets(model, maps, proposals, batch, train)[1]
