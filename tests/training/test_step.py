"""The update must not depend on how a global batch is spread over devices."""

import time
import types

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import load_config
from fcis_tf.model.fcis import FCIS
from fcis_tf.training.distributed.strategy import mirrored_strategy
from fcis_tf.training.optimizer import build_optimizer
from fcis_tf.training.step import LOSSES, TrainStep
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


def prepare(strategy, changes, batch=4, content=None):
    """A step of freshly made weights, and a function that gives its batches from the start."""
    config = load_config(None, [*TINY, *changes])
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        model = FCIS.from_config(config)
        step = TrainStep(model, build_optimizer(config.train), strategy, config.train)
    data = tf.data.Dataset.from_tensor_slices(content or make_batch(4)).batch(batch).repeat()
    return step, lambda: iter(strategy.experimental_distribute_dataset(data))


def run(strategy, changes, steps, batch=4):
    step, batches = prepare(strategy, changes, batch)
    taken = batches()
    losses = [row for _ in range(steps) for row in step(taken)]
    return losses, [w.numpy() for w in step.model.weights], step


def variables(step):
    """All that an update changes."""
    own = [v.value for v in (*step.model.weights, *step.optimizer.variables)]
    return [
        *own,
        *step.moving_average.values,
        *(step.loss_scale.variables if step.loss_scale else []),
    ]


def two_devices():
    return mirrored_strategy("/cpu:0", "/cpu:1")


@pytest.mark.slow
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

    spread = {  # strategy, accumulated batches, images a batch
        "two devices": (two_devices, 1, 4),
        "accumulated": (tf.distribute.get_strategy, 4, 1),
        "two devices, accumulated": (two_devices, 2, 2),
    }
    together = run(tf.distribute.OneDeviceStrategy("/cpu:0"), changes, 10)
    start = run(tf.distribute.get_strategy(), changes, 0)
    assert max(np.abs(a - b).max() for a, b in zip(start[1], together[1], strict=True)) > 1e-3
    for name in ways:
        strategy, times, batch = spread[name]
        other = run(strategy(), [*changes, f"train.accumulate={times}"], 10, batch)
        for a, b in zip(together[0], other[0], strict=True):
            assert a.keys() == b.keys()
            for term in (*LOSSES, "total", "gradient_norm"):
                rtol = 1e-3 if term == "gradient_norm" else 1e-4
                np.testing.assert_allclose(a[term], b[term], rtol=rtol, atol=1e-6, err_msg=name)
        for a, b in zip(together[1], other[1], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)
        for a, b in zip(
            together[2].moving_average.values, other[2].moving_average.values, strict=True
        ):
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


def test_several_steps_in_one_call_are_those_steps_one_by_one():
    step, batches = prepare(
        tf.distribute.get_strategy(), ["train.ema=0.5", "train.accumulate=2"], 1
    )
    start = [v.numpy() for v in variables(step)]
    taken = batches()
    alone = [row for _ in range(5) for row in step(taken)]
    found = [v.numpy() for v in variables(step)]
    for variable, value in zip(variables(step), start, strict=True):
        variable.assign(value)
    together = step(batches(), 5)
    assert len(together) == 5 and len({row["total"] for row in together}) == 5
    for a, b in zip(alone, together, strict=True):
        assert {k: v for k, v in a.items() if k != "data_wait"} == pytest.approx(
            {k: v for k, v in b.items() if k != "data_wait"}, rel=1e-5
        )
    for variable, value in zip(variables(step), found, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, atol=1e-6)


def test_an_overflow_on_one_device_leaves_the_update_out_on_all():
    content = make_batch(4)
    wild = content["image"].numpy()
    wild[0] = 1e30  # float16 knows no such number
    content = {k: tf.concat([v, v], 0) for k, v in content.items()}
    content["image"] = tf.concat([wild, content["image"][4:]], 0)
    changes = ["train.precision=float16", "train.ema=0.5"]
    step, batches = prepare(two_devices(), changes, 4, content)
    start = [v.numpy() for v in variables(step)]
    taken = batches()
    (row,) = step(taken)
    assert not np.isfinite(row["gradient_norm"]) and row["loss_scale"] == 2.0**15
    *others, scale, good = variables(step)
    assert (scale.numpy(), good.numpy()) == (2.0**14, 0)
    for variable, before in zip(others, start, strict=False):
        for copy in step.strategy.experimental_local_results(variable):
            np.testing.assert_array_equal(copy.numpy(), before)
    (row,) = step(taken)
    assert np.isfinite(list(row.values())).all() and row["loss_scale"] == 2.0**14
    assert (scale.numpy(), good.numpy(), step.optimizer.iterations.numpy()) == (2.0**14, 1, 1)
    moved = [(v.numpy() != b).any() for v, b in zip(others, start, strict=False)]
    assert all(moved[: len(step.model.weights)])


def test_float16_makes_nearly_the_update_of_float32_also_accumulated():
    def update(changes, batch):
        step, batches = prepare(tf.distribute.get_strategy(), changes, batch)
        start = [w.numpy() for w in step.model.weights]
        (row,) = step(batches())
        moves = [(w.numpy() - s).ravel() for w, s in zip(step.model.weights, start, strict=True)]
        return row, np.concatenate(moves)

    exact, expected = update([], 4)
    for changes, batch in ([], 4), (["train.accumulate=4"], 1):
        row, found = update(["train.precision=float16", *changes], batch)
        assert row["total"] == pytest.approx(exact["total"], rel=0.01)
        assert row["gradient_norm"] == pytest.approx(exact["gradient_norm"], rel=0.05)
        assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def test_frozen_stages_stay_and_synchronised_statistics_are_those_of_one_device():
    changes = ["train.freeze=3", "model.norm=sync_batch"]
    step, batches = prepare(two_devices(), changes)
    start = {w.path: w.numpy() for w in step.model.weights}
    step(batches(), 3)
    for weight in step.model.weights:
        frozen = weight.path.split("/")[-2].startswith(("conv1_", "conv2_", "conv3_"))
        assert (weight.numpy() == start[weight.path]).all() == frozen, weight.path
    one = run(tf.distribute.OneDeviceStrategy("/cpu:0"), changes, 3)[1]
    for weight, value in zip(step.model.weights, one, strict=True):
        np.testing.assert_allclose(weight.numpy(), value, atol=1e-5, err_msg=weight.path)


@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_waiting_for_a_batch_is_measured_inside_the_graph(pause):
    def slowly(number):
        time.sleep(pause)
        return number

    def read(number):
        return {"seed": tf.ensure_shape(tf.numpy_function(slowly, [number], tf.int64), [])}

    step = types.SimpleNamespace(strategy=tf.distribute.get_strategy(), waited=0.0)
    take = tf.function(lambda batches: TrainStep._next(step, batches)["seed"])
    batches = iter(tf.data.Dataset.range(5).map(read))
    take(batches)  # traces
    step.waited, began = 0.0, time.monotonic()
    assert [int(take(batches)) for _ in range(3)] == [1, 2, 3]
    # A batch is being made already when the clock starts, and clocks are not exact.
    assert 0.95 * 3 * pause <= step.waited <= time.monotonic() - began
    assert take.experimental_get_tracing_count() == 1
