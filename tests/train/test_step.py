"""The update must not depend on how a global batch is spread over devices."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import load_config
from fcis_tf.model.fcis import FCIS
from fcis_tf.train.optimizer import build_optimizer
from fcis_tf.train.step import LOSSES, TrainStep
from fcis_tf.train.strategy import mirrored_strategy
from tests import fixtures

TINY = [
    *fixtures.TINY,
    "model.classes=3",
    "proposals.train_count=30",
    "train.roi_batch=16",
    "train.warmup_steps=0",
    "train.learning_rate=1e-3",
]


def make_batch(images, side=64, slots=4):
    rng = np.random.default_rng(1)
    low = rng.uniform(0, side - 34, (images, slots, 2))
    boxes = np.concatenate([low, low + rng.uniform(12, 32, low.shape)], -1)
    return {
        "image": tf.constant(rng.normal(scale=50, size=(images, side, side, 3)), tf.float32),
        "image_size": tf.fill([images, 2], float(side)),
        "boxes": tf.constant(boxes, tf.float32),
        "labels": tf.constant(rng.integers(1, 4, (images, slots)), tf.int32),
        "masks": tf.constant(255 * rng.integers(0, 2, (images, slots, 14, 14)), tf.uint8),
        "seed": tf.constant([[7, i] for i in range(images)], tf.int32),
    }


def run(strategy, changes, steps, batch=4):
    config = load_config(None, [*TINY, *changes])
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        model = FCIS.from_config(config)
        step = TrainStep(model, build_optimizer(config.train), strategy, config.train)
    data = tf.data.Dataset.from_tensor_slices(make_batch(4)).batch(batch).repeat()
    batches = iter(strategy.experimental_distribute_dataset(data))
    losses = [row for _ in range(steps) for row in step(batches)]
    return losses, [w.numpy() for w in model.weights], step


@pytest.mark.parametrize(
    ("changes", "ways"),
    [
        (["train.sampling=ohem", "train.ema=0.5"], ["two devices", "accumulated"]),
        (["train.sampling=random", "train.clip_norm=0.5"], ["two devices, accumulated"]),
    ],
    ids=["sgd with ohem", "clipped sgd with random sampling"],
)
def test_four_images_make_one_update_however_they_are_spread(changes, ways):
    """Ten steps: on one device, on two, and as sums over smaller batches."""

    def two():
        return mirrored_strategy("/cpu:0", "/cpu:1")

    spread = {  # strategy, accumulated batches, images a batch
        "two devices": (two, 1, 4),
        "accumulated": (tf.distribute.get_strategy, 4, 1),
        "two devices, accumulated": (two, 2, 2),
    }
    together = run(tf.distribute.OneDeviceStrategy("/cpu:0"), changes, 10)
    start = run(tf.distribute.get_strategy(), changes, 0)
    assert max(np.abs(a - b).max() for a, b in zip(start[1], together[1], strict=True)) > 1e-3
    for name in ways:
        strategy, times, batch = spread[name]
        other = run(strategy(), [*changes, f"train.accumulate={times}"], 10, batch)
        for a, b in zip(together[0], other[0], strict=True):
            assert a.keys() == b.keys()
            for term in a:
                rtol = 1e-3 if term == "gradient_norm" else 1e-4
                np.testing.assert_allclose(a[term], b[term], rtol=rtol, atol=1e-6, err_msg=name)
        for a, b in zip(together[1], other[1], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)
        for a, b in zip(together[2].average, other[2].average, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5, err_msg=name)


def test_losses_fall_when_one_batch_is_repeated():
    changes = ["train.optimizer=adam", "train.sampling=random", "train.learning_rate=3e-3"]
    losses, _, _ = run(tf.distribute.get_strategy(), changes, 30)
    assert np.mean([row["total"] for row in losses[-5:]]) < 0.75 * losses[0]["total"]
    assert losses[-1]["total"] == pytest.approx(sum(losses[-1][name] for name in LOSSES), rel=1e-5)


def test_every_trained_weight_moves():
    before = run(tf.distribute.get_strategy(), [], 0)[1]
    after = run(tf.distribute.get_strategy(), [], 3)[1]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


def test_average_follows_the_weights_and_swaps_back():
    losses, weights, step = run(tf.distribute.get_strategy(), ["train.ema=0.5"], 1)
    start = run(tf.distribute.get_strategy(), ["train.ema=0.5"], 0)[1]
    keep = min(0.5, 2 / 11)  # (1 + step) / (10 + step) after one step
    trained = step.model.trainable_variables
    names = [w.path for w in step.model.weights]
    step.swap_average()
    for variable in trained:
        i = names.index(variable.path)
        np.testing.assert_allclose(
            variable.numpy(), keep * start[i] + (1 - keep) * weights[i], atol=1e-6
        )
    step.swap_average()
    for variable in trained:
        np.testing.assert_array_equal(variable.numpy(), weights[names.index(variable.path)])
