"""What Keras' `fit` needs to train the network: losses, training and validation data."""

from typing import Any

import keras
import tensorflow as tf

from fcis_tf.config import Config, TrainConfig
from fcis_tf.data.pipeline import evaluation_dataset, training_dataset
from fcis_tf.data.records import load_labels, read_serialized
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.structures import Tensor
from fcis_tf.training.step import LOSSES, compute_losses

# The rest of a batch is of no use to a step, and Keras cannot average strings over devices.
KEYS = ("image", "image_size", "boxes", "labels", "masks", "seed")


@keras.saving.register_keras_serializable("fcis_tf")
class Losses:
    """The five losses of the network, as `FCIS.compile` takes them.

    Args:
        train: settings of targets and losses.
    """

    names = LOSSES

    def __init__(self, train: TrainConfig | dict[str, Any]) -> None:
        self.train = TrainConfig.model_validate(train)

    def __call__(
        self, model: FCIS, batch: dict[str, Tensor], *, training: bool
    ) -> dict[str, Tensor]:
        """Scalars by name, each a sum over the images of the batch (structures.py)."""
        return compute_losses(model, batch, self.train, training=training)

    def check(self, model: FCIS) -> None:
        """Refuse what the exact loop does and `fit` does not.

        Raises:
            FcisError: a setting of the update that `fit` would ignore.
        """
        unknown: dict[str, float | None] = {"accumulate": 1, "clip_norm": None}
        if not getattr(model, "averaged", False):
            unknown["ema"] = 0.0
        for name, without in unknown.items():
            found = getattr(self.train, name)
            if found not in (without, 0):
                hint = "add the callback fcis_tf.WeightAverage, " if name == "ema" else ""
                raise FcisError(
                    f"fit: train.{name} is {found}, which fit ignores; {hint}set it to "
                    f"{'null' if without is None else without}, or train with `fcis train`"
                )

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, in types that JSON holds."""
        return {"train": self.train.model_dump(mode="json")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Losses":
        """The losses of a dictionary that `get_config` made."""
        return cls(**config)


def training_data(config: Config, batch_size: int | None = None) -> tf.data.Dataset:
    """Endless batches for `FCIS.fit`: the same images in the same order as `fcis train` draws.

    Give `fit` a `steps_per_epoch`, since the data has no end.

    Args:
        config: names the records in ``data.train``.
        batch_size: images of a step over all devices; by default ``train.batch_size`` for each
            device of the current strategy (``with strategy.scope():``).

    Returns:
        Dictionaries of structures.py's `batch` with the keys `KEYS`; batches differ in size.

    Raises:
        FcisError: no records, or no such ones.
    """
    if not config.data.train:
        raise FcisError("data.train: no training records configured; set it to a records folder")
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    return training_dataset(
        config.data.train,
        labels_of(config),
        config.data,
        batch_size=batch_size or config.train.batch_size * devices,
        seed=config.train.seed,
    ).map(_needed, tf.data.AUTOTUNE)


def validation_data(config: Config, batch_size: int | None = None) -> tf.data.Dataset:
    """Every validation record once, for the losses that `fit` and `evaluate` report.

    Args:
        config: names the records in ``data.validation``.
        batch_size: as in `training_data`.

    Raises:
        FcisError: no records, or no such ones.
    """
    data = config.data
    if not data.validation:
        raise FcisError("data.validation: no validation records configured; set it to a folder")
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    batch_size = batch_size or config.train.batch_size * devices
    batches = evaluation_dataset(
        data.validation,
        labels_of(config),
        data,
        batch_size=batch_size,
    )
    # Keras warns at the end of data whose length it did not know.
    count = sum(1 for _ in read_serialized(data.validation))
    length = tf.data.experimental.assert_cardinality(-(-count // batch_size))
    return batches.map(_needed, tf.data.AUTOTUNE).apply(length)


def labels_of(config: Config) -> Labels:
    """The classes that a configuration names, or else those of its records."""
    data = config.data
    records = data.train or data.validation
    if data.labels:
        return Labels.load(data.labels)
    records = data.train or data.validation
    if not records:
        raise FcisError("data.labels: no classes; set it, data.train or data.validation")
    return load_labels(records)


def _needed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: batch[key] for key in KEYS}
