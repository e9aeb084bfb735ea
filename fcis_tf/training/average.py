"""The moving average of the weights, which is evaluated and exported in their place."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fcis_tf.structures import Tensor


class MovingAverage:
    """An average of variables whose memory grows to ``1 / (1 - decay)`` steps.

    Args:
        variables: of Keras, made under the current strategy; none if there is nothing to average.
        decay: in 0..1; smaller in the first steps, so that the first weights are forgotten.
    """

    def __init__(self, variables: Sequence[Any], decay: float) -> None:
        self.variables, self.decay = tuple(variables), decay
        self.values = [tf.Variable(variable.value) for variable in variables]

    def follow(self, step: Tensor) -> None:
        """Move towards the variables after update number `step`, counted from 1."""
        step = tf.cast(step, tf.float32)
        keep = tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for average, variable in zip(self.values, self.variables, strict=True):
            average.assign(keep * average + (1.0 - keep) * variable.value)

    def swap(self) -> None:
        """Exchange the variables with their average; a second call exchanges them back."""
        for variable, average in zip(self.variables, self.values, strict=True):
            current = variable.numpy()
            variable.assign(average.numpy())
            average.assign(current)
