import numpy as np
import tensorflow as tf

from fcis_tf.training.loss_scale import LEAST, PATIENCE, LossScale


def test_the_scale_halves_after_an_overflow_and_doubles_after_many_good_steps():
    loss = LossScale(8.0)
    yes, no = tf.constant(True), tf.constant(False)
    follow = tf.function(loss.follow)
    for _ in range(PATIENCE - 1):
        follow(yes)
    assert float(loss.scale) == 8.0
    follow(yes)
    assert float(loss.scale) == 16.0
    for _ in range(PATIENCE - 1):
        follow(yes)
    follow(no)  # the count starts anew
    assert float(loss.scale) == 8.0
    for _ in range(PATIENCE - 1):
        follow(yes)
    assert float(loss.scale) == 8.0
    follow(yes)
    assert float(loss.scale) == 16.0
    for _ in range(10):
        follow(no)
    np.testing.assert_array_equal(loss.scale, LEAST)
