"""Optimisers and learning-rate schedules (spec section 8)."""

import math
from typing import Any

import keras
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.structures import Tensor

# Biases and normalisation offsets are not decayed.
UNDECAYED = ("bias", "beta")
# The released code trains its new 1 x 1 convolution three times as fast.
FAST_LAYER, FAST_FACTOR = "conv_new_1", 3.0


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Constant warm-up, then steps or a cosine to 0.

    Args:
        rate: learning rate after the warm-up.
        steps: length of the training.
        kind: "steps" or "cosine".
        drops: fractions of `steps` at which "steps" multiplies the rate by `drop_factor`.
        drop_factor: see `drops`.
        warmup_steps: number of steps before the full rate; "cosine" rises linearly during them.
        warmup_factor: factor of the rate during ("steps") or at the start of ("cosine") them.
    """

    def __init__(
        self,
        rate: float,
        steps: int,
        *,
        kind: str,
        drops: tuple[float, ...],
        drop_factor: float,
        warmup_steps: int,
        warmup_factor: float,
    ) -> None:
        self.rate, self.steps, self.kind = rate, steps, kind
        self.drops, self.drop_factor = drops, drop_factor
        self.warmup_steps, self.warmup_factor = warmup_steps, warmup_factor

    def __call__(self, step: Tensor) -> Tensor:
        step = tf.cast(step, tf.float32)
        warming = step < self.warmup_steps
        if self.kind == "steps":
            passed = sum(tf.cast(step >= int(d * self.steps), tf.float32) for d in self.drops)
            factor = tf.pow(self.drop_factor, passed) if self.drops else tf.constant(1.0)
            return self.rate * tf.where(warming, self.warmup_factor, factor)
        risen = tf.math.divide_no_nan(step, float(self.warmup_steps))
        rise = self.warmup_factor + (1.0 - self.warmup_factor) * risen
        length = max(self.steps - self.warmup_steps, 1)
        progress = tf.clip_by_value((step - self.warmup_steps) / length, 0.0, 1.0)
        return self.rate * tf.where(warming, rise, 0.5 * (1.0 + tf.cos(math.pi * progress)))


class _OfSums:
    """Takes gradients that are summed over replicas already; Keras would sum them once more."""

    def _all_reduce_sum_gradients(self, pairs: Any) -> list[tuple[Tensor, Any]]:
        return list(pairs)


class AdamW(_OfSums, keras.optimizers.AdamW):
    """Adam with decoupled weight decay."""


class SgdL2(_OfSums, keras.optimizers.SGD):
    """SGD with momentum and L2 decay that goes through the momentum.

    ``v <- momentum v - rate m (g + decay w); w <- w + v`` with m = 3 for conv_new_1. Keras' own
    ``weight_decay`` is decoupled from the momentum and so another method.
    """

    def __init__(self, learning_rate: Any, *, momentum: float, decay: float) -> None:
        super().__init__(learning_rate=learning_rate, momentum=momentum)
        self.decay = decay

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.paths = [variable.path.split("/") for variable in variables]

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        # `variable` is TensorFlow's here, on a further replica that replica's, and its name does
        # not hold the layer's: only its number leads back to the path.
        path = self.paths[self._get_variable_index(variable)]
        if not set(UNDECAYED) & set(path):
            gradient = gradient + self.decay * tf.cast(variable, gradient.dtype)
        if FAST_LAYER in path:
            learning_rate = learning_rate * FAST_FACTOR
        super().update_step(gradient, variable, learning_rate)


def build_optimizer(train: TrainConfig) -> keras.optimizers.Optimizer:
    """The optimiser of a configuration; it takes gradients summed over the images and replicas of a
    step."""
    schedule = Schedule(
        train.learning_rate,
        train.steps,
        kind=train.schedule,
        drops=train.drops,
        drop_factor=train.drop_factor,
        warmup_steps=train.warmup_steps,
        warmup_factor=train.warmup_factor,
    )
    if train.optimizer == "sgd":
        return SgdL2(schedule, momentum=train.momentum, decay=train.weight_decay)
    adam = AdamW(schedule, weight_decay=train.weight_decay)
    adam.exclude_from_weight_decay(var_names=[*UNDECAYED, "gamma"])
    return adam
