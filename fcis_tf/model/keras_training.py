"""Keras' own training of the network: `compile`, `fit`, `evaluate`, and what is saved of them."""

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from fcis_tf.errors import FcisError
from fcis_tf.structures import Tensor

COMPILE = (
    "compile(optimizer=fcis_tf.build_optimizer(config.train), loss=fcis_tf.Losses(config.train))"
)


class StepLoss(Protocol):
    """What `compile` takes as loss; `fcis_tf.Losses` is one."""

    names: tuple[str, ...]

    def __call__(
        self, model: Any, batch: dict[str, Tensor], *, training: bool
    ) -> dict[str, Tensor]:
        """Scalars by name, each a sum over the images of the batch."""

    def check(self, model: Any) -> None:
        """Raise FcisError if `fit` cannot make the update that the settings describe."""


class Means:
    """Means over images of named values; an object that Keras does not take for a part of a model.

    Args:
        names: of the values.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.metrics = [keras.metrics.Mean(name) for name in names]

    def update(self, sums: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
        """The means so far, with those of a further number of images whose sums are given."""
        for mean in self.metrics:
            mean.update_state(tf.math.divide_no_nan(sums[mean.name], images), images)
        return {mean.name: mean.result() for mean in self.metrics}


class KerasTraining(keras.Model):
    """A model whose loss is a function of itself and of a batch dictionary.

    Gradients are sums over the images of a batch; the optimizer sums them over the replicas of the
    strategy that the model was made under. The reported losses are means over images.
    """

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | None = None,
        loss: StepLoss | None = None,
        *,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
    ) -> None:
        """Make the model ready for `fit` and `evaluate`.

        Args:
            optimizer: takes gradients that are sums over images; `fcis_tf.build_optimizer` makes
                that of a configuration.
            loss: `fcis_tf.Losses`.
            run_eagerly: as in Keras.
            steps_per_execution: as in Keras; 1 on more than one device.

        Raises:
            FcisError: an argument is missing or of another kind, or Keras cannot train so.
        """
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise FcisError(f"compile: expected a Keras optimizer, found {optimizer!r}: {COMPILE}")
        if loss is None or not callable(getattr(loss, "check", None)):
            raise FcisError(f"compile: expected fcis_tf.Losses as loss, found {loss!r}: {COMPILE}")
        if self.dtype_policy.name == "mixed_float16":
            raise FcisError(
                "compile: fit does not scale the losses of train.precision float16 over devices; "
                "set it to bfloat16 or float32, or train with `fcis train`"
            )
        strategy = self.distribute_strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise FcisError(
                "compile: Keras' fit fails on several hosts (keras issue 20585); "
                "train with `fcis train`"
            )
        if steps_per_execution > 1 and strategy.num_replicas_in_sync > 1:
            raise FcisError(
                f"compile: steps_per_execution is {steps_per_execution} and Keras' fit takes 1 on "
                f"{strategy.num_replicas_in_sync} devices; leave it out, or train with `fcis train`"
            )
        # Keras would call a loss with (y_true, y_pred); this one is called in `train_step`.
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=False,
        )
        self.loss: StepLoss = loss
        with strategy.scope():
            self.means = Means(("loss", *loss.names))

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile`, in types that JSON holds; None before it."""
        if not self.compiled:
            return None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "loss": keras.saving.serialize_keras_object(self.loss),
            "run_eagerly": self.run_eagerly,
            "steps_per_execution": self.steps_per_execution,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was; its optimizer has the variables to load."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The means of the losses over the images of an epoch."""
        return self.means.metrics if self.compiled else []

    def fit(self, x: Any, *, shuffle: bool = False, **options: Any) -> keras.callbacks.History:
        """As in Keras, from a `tf.data.Dataset` of batch dictionaries, which is in order already.

        Keras calls `shuffle` its default, and then warns that a dataset is not shuffled.
        """
        return super().fit(x, shuffle=shuffle, **options)

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update from a replica's part of a batch; the losses of the epoch so far."""
        self.loss.check(self)
        variables = [variable.value for variable in self.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            losses = self.loss(self, batch, training=True)
            total = tf.add_n(list(losses.values()))
        gradients = tape.gradient(total, variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self._report(batch, losses, total)

    def test_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of the data so far, without an update."""

        def measure() -> dict[str, Tensor]:
            return self.loss(self, batch, training=False)

        # The last batch of the data may leave a device without images.
        losses = tf.cond(
            tf.shape(batch["image"])[0] > 0,
            measure,
            lambda: {name: tf.zeros([]) for name in self.loss.names},
        )
        return self._report(batch, losses, tf.add_n(list(losses.values())))

    def _report(
        self, batch: dict[str, Tensor], losses: dict[str, Tensor], total: Tensor
    ) -> dict[str, Tensor]:
        images = tf.cast(tf.shape(batch["image"])[0], tf.float32)
        return self.means.update({"loss": total, **losses}, images)
