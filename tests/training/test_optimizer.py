import keras
import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.training.optimizer import Schedule, SgdL2, build_optimizer


def variables():
    """A decayed kernel, an undecayed bias and the kernel of the fast layer."""
    plain, fast = keras.layers.Dense(1, name="other"), keras.layers.Dense(1, name="conv_new_1")
    for layer in (plain, fast):
        layer.build((None, 1))
    found = [plain.kernel, plain.bias, fast.kernel]
    for variable in found:
        variable.assign(tf.fill(variable.shape, 2.0))
    return found


def test_one_step_of_the_specification():
    """Spec annex D: g = 1, w = 2, rate 5e-4, decay 5e-4 from rest."""
    kernel, bias, fast = variables()
    optimizer = SgdL2(5e-4, momentum=0.9, decay=5e-4)
    optimizer.apply([tf.ones(v.shape) for v in (kernel, bias, fast)], [kernel, bias, fast])
    moved = [float(np.squeeze(v.numpy())) - 2.0 for v in (kernel, bias, fast)]
    np.testing.assert_allclose(
        moved, [-5e-4 * (1 + 1e-3), -5e-4, -3 * 5e-4 * (1 + 1e-3)], rtol=2e-3
    )


def test_decay_goes_through_the_momentum():
    kernel, bias, fast = variables()
    optimizer = SgdL2(0.1, momentum=0.9, decay=0.01)
    w, v = 2.0, 0.0
    for _ in range(10):
        optimizer.apply([tf.zeros(x.shape) for x in (kernel, bias, fast)], [kernel, bias, fast])
        v = 0.9 * v - 0.1 * 0.01 * w
        w += v
    np.testing.assert_allclose(kernel.numpy(), w, rtol=1e-6)
    np.testing.assert_array_equal(bias.numpy(), 2.0)


def schedule(kind, **changes):
    options = {
        "kind": kind,
        "drops": (0.5, 0.75),
        "drop_factor": 0.1,
        "warmup_steps": 10,
        "warmup_factor": 0.2,
    }
    return Schedule(2.0, 100, **{**options, **changes})


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.4), (9, 0.4), (10, 2.0), (49, 2.0), (50, 0.2), (75, 0.02), (99, 0.02)]
)
def test_steps_schedule(step, rate):
    np.testing.assert_allclose(schedule("steps")(step), rate, rtol=1e-6)


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.4), (5, 1.2), (10, 2.0), (55, 1.0), (100, 0.0), (200, 0.0)]
)
def test_cosine_schedule(step, rate):
    np.testing.assert_allclose(schedule("cosine")(step), rate, atol=1e-6)


def test_schedules_without_drops_or_warm_up():
    assert float(schedule("steps", drops=(), warmup_steps=0)(0)) == 2.0
    assert float(schedule("cosine", warmup_steps=0)(0)) == 2.0


def test_adam_leaves_biases_undecayed():
    kernel, bias, fast = variables()
    optimizer = build_optimizer(
        TrainConfig(optimizer="adam", learning_rate=0.1, weight_decay=0.1, warmup_steps=0, drops=())
    )
    optimizer.apply([tf.zeros(v.shape) for v in (kernel, bias, fast)], [kernel, bias, fast])
    np.testing.assert_allclose(kernel.numpy(), 2.0 * (1 - 0.1 * 0.1), rtol=1e-6)
    np.testing.assert_array_equal(bias.numpy(), 2.0)
