"""Callbacks for Keras' `fit`: COCO AP after an epoch, and the moving average of the weights."""

from typing import Any

import keras
import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.errors import FcisError
from fcis_tf.evaluation.run import evaluate_model
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.training.average import MovingAverage
from fcis_tf.training.fit import labels_of


class CocoMetrics(keras.callbacks.Callback):
    """Adds COCO AP on the validation records to the logs of an epoch.

    The logs then hold ``val_mask_AP``, ``val_mask_AP50`` and ``val_box_AP`` (0..1; -1 without any
    ground truth). Callbacks run in the order of the list: put this one before those that read
    them, such as EarlyStopping, ModelCheckpoint and TensorBoard, and after `WeightAverage`.

    Args:
        config: names the records in ``data.validation``; ``train.evaluate_images`` limits them.
        every: epochs between two evaluations; the logs of the others lack the three.

    Raises:
        FcisError: no validation records.
    """

    def __init__(self, config: Config, *, every: int = 1) -> None:
        super().__init__()
        if not config.data.validation:
            raise FcisError("data.validation: no validation records configured; set it to a folder")
        self.records: str = config.data.validation
        self.limit, self.every = config.train.evaluate_images, every
        self.labels = labels_of(config)
        self.predictor: Predictor | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate the current weights."""
        if (epoch + 1) % self.every:
            return
        if self.predictor is None or self.predictor.model is not self.model:
            self.predictor = Predictor(self.model, labels=self.labels)
        metrics, _ = evaluate_model(self.predictor, self.records, limit=self.limit)
        if logs is not None:
            logs["val_mask_AP"] = metrics.mask["AP"]
            logs["val_mask_AP50"] = metrics.mask["AP50"]
            logs["val_box_AP"] = metrics.box["AP"]


class WeightAverage(keras.callbacks.Callback):
    """Keeps the moving average of the weights that `fcis train` keeps with ``train.ema``.

    The network has the averaged weights during validation, from the end of an epoch to the
    beginning of the next, and after `fit`. Put it first in the list of callbacks, so that those
    that evaluate or save the network find the average.

    Args:
        decay: ``config.train.ema``.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay, self.swapped = decay, False
        self.average: MovingAverage | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start from the current weights, or go on after an earlier `fit`."""
        if self.model.steps_per_execution > 1:
            raise FcisError(
                "WeightAverage: expected steps_per_execution 1, found "
                f"{self.model.steps_per_execution}; it follows every step"
            )
        self.model.averaged = True
        self._use(average=False)
        if self.average is None:
            with self.model.distribute_strategy.scope():
                self.average = MovingAverage(self.model.trainable_variables, self.decay)
            self._follow = tf.function(self.average.follow)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Follow an update."""
        self._follow(self.model.optimizer.iterations.value)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Validate the average."""
        self._use(average=True)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Back to the weights in training."""
        self._use(average=False)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """The callbacks that follow, and what comes after `fit`, use the average."""
        self._use(average=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Back to the weights in training."""
        self._use(average=False)

    def _use(self, *, average: bool) -> None:
        if self.average is not None and self.swapped != average:
            self.average.swap()
            self.swapped = average
