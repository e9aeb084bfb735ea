"""Dynamic loss scaling: float16 gradients that neither vanish nor overflow.

Gradients of the heads are often below 6e-8, the smallest number of float16. Training therefore
differentiates the loss times a large scale and divides after. A scale that is too large makes some
gradient infinite: that step is left out and the scale is halved.
"""

import tensorflow as tf

from fcis_tf.structures import Tensor

START, LEAST = 2.0**15, 1.0
PATIENCE = 2000  # steps without overflow after which the scale doubles


class LossScale:
    """The scale and the number of steps since it last changed, both on every replica.

    Args:
        start: first scale.
    """

    def __init__(self, start: float = START) -> None:
        self.scale = tf.Variable(start, trainable=False)
        self.good = tf.Variable(0, dtype=tf.int64, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """What a checkpoint must hold."""
        return [self.scale, self.good]

    def follow(self, finite: Tensor) -> None:
        """Halve after an overflow, down to `LEAST`; double after `PATIENCE` steps without one."""
        grow = self.good + 1 >= PATIENCE
        grown = tf.where(grow, 2.0 * self.scale, self.scale)
        self.scale.assign(tf.where(finite, grown, tf.maximum(0.5 * self.scale, LEAST)))
        self.good.assign(tf.where(finite & ~grow, self.good + 1, 0))
