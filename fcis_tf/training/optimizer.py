"""Optimisers and learning-rate schedules of a configuration, as ordinary Keras objects.

They may be handed to `keras.Model.compile`, saved and loaded. Their gradients are sums over the
images of a step, so that a learning rate is one per image, as in the released code.
"""

from typing import Any

import keras
import tensorflow as tf
from keras.optimizers.schedules import CosineDecay, LearningRateSchedule, PiecewiseConstantDecay

from fcis_tf.config import TrainConfig
from fcis_tf.structures import Tensor

# Biases and normalisation offsets are not decayed.
UNDECAYED = frozenset({"bias", "beta"})
# The released code trains its new 1 x 1 convolution three times as fast.
FAST_LAYER, FAST_FACTOR = "conv_new_1", 3.0


class _ByPath(keras.optimizers.Optimizer):
    """An optimiser that treats a variable by the names of its layer and of itself."""

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.names_of = tuple(frozenset(variable.path.split("/")) for variable in variables)

    def names(self, variable: Any) -> frozenset[str]:
        """The parts of the path of a variable that `update_step` is given.

        That is TensorFlow's variable, on a further replica that replica's, whose own name lacks the
        layer's: only its number leads back to the path.
        """
        return self.names_of[self._get_variable_index(variable)]


@keras.saving.register_keras_serializable("fcis_tf")
class AdamW(_ByPath, keras.optimizers.Adam):
    """Adam with decoupled weight decay of all but biases and the weights of normalisation.

    ``w <- w - rate decay w`` before the step of Adam. Unlike Keras' AdamW all of it is in
    `update_step`, so that whoever has summed the gradients may call that directly.

    Args:
        learning_rate: number or schedule.
        decay: see above.
        **options: of `keras.optimizers.Adam`.
    """

    def __init__(self, learning_rate: Any, *, decay: float, **options: Any) -> None:
        super().__init__(learning_rate=learning_rate, **options)
        self.decay = decay

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay}

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        if not (UNDECAYED | {"gamma"}) & self.names(variable):
            variable.assign_sub(variable * self.decay * tf.cast(learning_rate, variable.dtype))
        super().update_step(gradient, variable, learning_rate)


@keras.saving.register_keras_serializable("fcis_tf")
class SgdL2(_ByPath, keras.optimizers.SGD):
    """SGD with momentum and L2 decay that goes through the momentum.

    ``v <- momentum v - rate m (g + decay w); w <- w + v`` with m = 3 for conv_new_1. Keras' own
    ``weight_decay`` is decoupled from the momentum and so another method.

    Args:
        learning_rate: number or schedule.
        momentum: see above.
        decay: see above; none of biases and of the offsets of normalisation.
        **options: of `keras.optimizers.SGD`.
    """

    def __init__(
        self, learning_rate: Any, *, momentum: float, decay: float, **options: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, momentum=momentum, **options)
        self.decay = decay

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay}

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        names = self.names(variable)
        if not UNDECAYED & names:
            gradient = gradient + self.decay * tf.cast(variable, gradient.dtype)
        if FAST_LAYER in names:
            learning_rate = learning_rate * FAST_FACTOR
        super().update_step(gradient, variable, learning_rate)


def build_optimizer(train: TrainConfig) -> keras.optimizers.Optimizer:
    """The optimiser of a configuration; its gradients are sums over the images of a step."""
    schedule = build_schedule(train)
    if train.optimizer == "sgd":
        return SgdL2(schedule, momentum=train.momentum, decay=train.weight_decay)
    return AdamW(schedule, decay=train.weight_decay)


def build_schedule(train: TrainConfig) -> LearningRateSchedule:
    """The learning rate of every step.

    "cosine" rises linearly from ``warmup_factor`` times the rate during ``warmup_steps``, then
    falls as a cosine to 0 at ``steps``. "steps" is constant at ``warmup_factor`` times the rate
    during ``warmup_steps``; from the fractions ``drops`` of ``steps`` on, the rate is multiplied
    by ``drop_factor``.
    """
    rate, warmup = train.learning_rate, train.warmup_steps
    if train.schedule == "cosine":
        length = max(train.steps - warmup, 1)
        if not warmup:
            return CosineDecay(rate, length)
        return CosineDecay(
            rate * train.warmup_factor, length, warmup_target=rate, warmup_steps=warmup
        )
    drops = [int(fraction * train.steps) for fraction in train.drops]
    # Keras takes no empty list: without warm-up and drops the rate changes to itself.
    starts = sorted({warmup, *drops} - {0}) or [train.steps]

    def rate_from(step: int) -> float:
        if step < warmup:
            return rate * train.warmup_factor
        return rate * train.drop_factor ** sum(step >= drop for drop in drops)

    # A boundary is the last step of the interval before it.
    return PiecewiseConstantDecay(
        [start - 1 for start in starts], [rate_from(start) for start in (0, *starts)]
    )
