import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.training.optimizer import SgdL2, build_optimizer, build_schedule


def variables():
    """A decayed kernel, an undecayed bias and the kernel of the fast layer."""
    plain, fast = keras.layers.Dense(1, name="other"), keras.layers.Dense(1, name="conv_new_1")
    for layer in (plain, fast):
        layer.build((None, 1))
    found = [plain.kernel, plain.bias, fast.kernel]
    for variable in found:
        variable.assign(tf.fill(variable.shape, 2.0))
    return found


def test_one_step_from_rest():
    """By hand: the first step for g = 1, w = 2, rate 5e-4 and decay 5e-4."""
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


def rate_of(train, step):
    """Of the formula, in float64."""
    rate, warming = train.learning_rate, step < train.warmup_steps
    if train.schedule == "steps":
        if warming:
            return rate * train.warmup_factor
        passed = sum(step >= int(fraction * train.steps) for fraction in train.drops)
        return rate * train.drop_factor**passed
    if warming:
        risen = step / train.warmup_steps
        return rate * (train.warmup_factor + (1 - train.warmup_factor) * risen)
    done = (step - train.warmup_steps) / max(train.steps - train.warmup_steps, 1)
    return rate * 0.5 * (1 + np.cos(np.pi * np.clip(done, 0, 1)))


@pytest.mark.parametrize("kind", ["steps", "cosine"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warmup_steps": 0},
        {"drops": ()},
        {"drops": (), "warmup_steps": 0},
        {"drops": (0.05, 0.5, 0.5), "warmup_steps": 20},
        {"drops": (0.0, 0.5), "warmup_factor": 0.0},
        {"warmup_steps": 200},
    ],
)
def test_every_step_has_the_rate_of_the_formula(kind, changes):
    values = {"drops": (0.5, 0.75), "warmup_steps": 10, "warmup_factor": 0.2, **changes}
    train = TrainConfig(steps=100, learning_rate=2e-3, schedule=kind, **values)
    schedule = build_schedule(train)
    again = keras.optimizers.schedules.deserialize(
        json.loads(json.dumps(keras.optimizers.schedules.serialize(schedule)))
    )
    rates, rates_again = (
        tf.function(lambda one=one: tf.map_fn(one, tf.range(220, dtype=tf.int64), tf.float32))()
        for one in (schedule, again)
    )
    expected = [rate_of(train, step) for step in range(220)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-6 * 2e-3)
    np.testing.assert_array_equal(rates, rates_again)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimizer_is_saved_with_its_schedule_and_decay(kind):
    optimizer = build_optimizer(TrainConfig(optimizer=kind, momentum=0.7, weight_decay=0.03))
    content = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    other = keras.optimizers.deserialize(content)
    assert type(other) is type(optimizer) and other.get_config() == optimizer.get_config()
    moved = []
    for one in (optimizer, other):
        weights = variables()
        for _ in range(3):
            one.apply([tf.ones(v.shape) for v in weights], weights)
        moved.append([float(np.squeeze(w.numpy())) for w in weights])
    assert moved[0] == moved[1] and moved[0][0] != 2.0


def test_adam_leaves_biases_undecayed():
    kernel, bias, fast = variables()
    optimizer = build_optimizer(
        TrainConfig(optimizer="adam", learning_rate=0.1, weight_decay=0.1, warmup_steps=0, drops=())
    )
    optimizer.apply([tf.zeros(v.shape) for v in (kernel, bias, fast)], [kernel, bias, fast])
    np.testing.assert_allclose(kernel.numpy(), 2.0 * (1 - 0.1 * 0.1), rtol=1e-6)
    np.testing.assert_array_equal(bias.numpy(), 2.0)
