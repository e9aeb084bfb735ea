"""Keras' `fit` makes the updates of the exact loop, and its callbacks do what they should."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import fcis_tf
from fcis_tf.config import load_config
from fcis_tf.errors import FcisError
from fcis_tf.evaluation.run import evaluate_model
from fcis_tf.model.fcis import FCIS
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.training.distributed.strategy import mirrored_strategy
from fcis_tf.training.fit import labels_of
from fcis_tf.training.step import LOSSES, TrainStep, compute_losses
from tests import fixtures

TINY = [
    *fixtures.TINY,
    "model.classes=3",
    "data.short_sides=[60]",
    "data.validation_short_side=60",
    "data.mask_size=14",
    "proposals.train_count=20",
    "proposals.predict_count=20",
    "predict.max_detections=10",
    "predict.mask_size=14",
    "train.roi_batch=16",
    "train.warmup_steps=3",
    "train.learning_rate=1e-3",
    "train.steps=10",
]
STEPS = 5


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Five images of three classes and several sizes."""
    rng = np.random.default_rng(0)
    sizes = [(60, 80), (70, 60), (60, 75), (60, 90), (64, 80)]
    rows = [
        fixtures.make_record(rng, str(n), *size, instances=2, kind="JPEG")
        for n, size in enumerate(sizes)
    ]
    return str(fixtures.write_records(tmp_path_factory.mktemp("fit"), rows))


def configure(records, *changes):
    folders = [f"data.train={records}", f"data.validation={records}"]
    return load_config(None, [*TINY, *folders, *changes])


def build(config, strategy=None):
    """A compiled network of weights that depend on the configuration alone."""
    keras.utils.set_random_seed(0)
    with (strategy or tf.distribute.get_strategy()).scope():
        model = FCIS(config)
        model.compile(
            optimizer=fcis_tf.build_optimizer(config.train), loss=fcis_tf.Losses(config.train)
        )
    return model


def loop(config, batches, strategy):
    """The weights, their average and the losses of the exact loop after the same steps."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = FCIS(config)
        optimizer = fcis_tf.build_optimizer(config.train)
        step = TrainStep(model, optimizer, strategy, config.train)
    rows = step(iter(strategy.experimental_distribute_dataset(batches)), STEPS)
    losses = {name: np.mean([row[name] for row in rows]) for name in (*LOSSES, "total")}
    losses["loss"] = losses.pop("total")
    return [w.numpy() for w in model.weights], step.moving_average.values, losses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "devices", "tolerance"),
    [
        (["train.optimizer=adam", "train.schedule=cosine", "train.ema=0.9"], 1, 1e-6),
        (["train.precision=bfloat16", "train.sampling=random"], 1, 1e-6),
        (["train.drops=[0.4]"], 2, 1e-5),
    ],
    ids=["adam, averaged", "bfloat16", "two devices"],
)
def test_fit_makes_the_updates_of_the_exact_loop(records, changes, devices, tolerance):
    """From the same batches of data that is read, shuffled and augmented as in the loop."""
    config = configure(records, "train.batch_size=2", *changes)
    names = [f"/cpu:{number}" for number in range(devices)]
    strategy = mirrored_strategy(*names) if devices > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        data = fcis_tf.training_data(config)
        validation = fcis_tf.validation_data(config)
    model = build(config, strategy)
    start = [w.numpy() for w in model.weights]
    average = [fcis_tf.WeightAverage(config.train.ema)] if config.train.ema else []
    history = model.fit(data, steps_per_epoch=STEPS, epochs=1, verbose=0, callbacks=average)
    weights, averages, losses = loop(config, data, strategy)
    assert max(np.abs(a - b).max() for a, b in zip(start, weights, strict=True)) > 1e-3
    if average:
        names = [w.path for w in model.trainable_weights]
        found = [w.numpy() for w in model.trainable_weights]
        assert len(found) == len(averages) == len(names)
        for one, other, name in zip(found, averages, names, strict=True):
            np.testing.assert_allclose(one, other, atol=tolerance, err_msg=name)
        average[0].on_epoch_begin(1)  # back to the weights in training
    for weight, expected in zip(model.weights, weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=tolerance, err_msg=weight.path)
    assert history.history.keys() == losses.keys()
    for name, value in losses.items():
        assert history.history[name] == pytest.approx([value], rel=1e-4, abs=1e-6), name
    if devices > 1:  # the last of the batches leaves one device without an image
        found = model.evaluate(validation, verbose=0, return_dict=True)
        batches = [(len(b["image"]), compute_losses(model, b, config.train)) for b in validation]
        assert [count for count, _ in batches] == [4, 1]
        for name in LOSSES:
            mean = sum(float(losses[name]) for _, losses in batches) / 5
            assert found[name] == pytest.approx(mean, rel=1e-4, abs=1e-6), name


def test_the_snippets_of_the_documentation_run_as_they_stand(records, tmp_path, monkeypatch):
    """With fewer steps. At a rate of 0 the first epoch is the best, and the third does not come."""
    monkeypatch.chdir(tmp_path)
    changes = ["train.batch_size=1", "train.learning_rate=0.0", "train.ema=0.9"]
    config = configure(records, *changes)
    config.save("config.yaml")
    text = (Path(fcis_tf.__file__).parents[1] / "docs" / "keras.md").read_text()
    build, fit, _, save, load = re.findall("```python\n(.*?)```", text, re.S)
    fit, changed = re.subn("=500,\n +epochs=20", "=2, verbose=0, epochs=5", fit)
    fit, patience = re.subn("patience=3", "patience=1", fit)
    assert (changed, patience) == (1, 1)
    names = {}
    for block in (build, fit, save):
        exec(block, names)
    model, history = names["model"], names["history"].history
    assert history["val_mask_AP"] == history["val_mask_AP"][:1] * 2  # stopped after the second
    metrics, _ = evaluate_model(Predictor(model, labels=labels_of(config)), records)
    assert history["val_mask_AP"][-1] == metrics.mask["AP"]
    assert history["val_mask_AP50"][-1] == metrics.mask["AP50"]
    assert history["val_box_AP"][-1] == metrics.box["AP"]
    assert history["val_loss"] == history["val_loss"][:1] * 2 and history["val_loss"][0] > 0
    tags = {
        value.tag
        for path in Path("logs", "validation").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"epoch_mask_AP", "epoch_mask_AP50", "epoch_box_AP", "epoch_loss"} <= tags
    exec(load, names)
    best, again = keras.saving.load_model("best.keras"), names["model"]
    assert (best.optimizer.iterations, again.optimizer.iterations) == (2, 4)
    for one, early, weight in zip(again.weights, best.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, weight)
        np.testing.assert_allclose(early, weight, atol=1e-6)  # the average of equal weights rounds

    # TerminateOnNaN
    broken = fcis_tf.training_data(config).map(lambda one: {**one, "image": np.nan * one["image"]})
    callbacks = [fcis_tf.WeightAverage(0.9), keras.callbacks.TerminateOnNaN()]
    model.fit(broken, steps_per_epoch=2, epochs=5, verbose=0, callbacks=callbacks)
    assert model.optimizer.iterations == 5


GO_ON = """
import sys
import keras, numpy as np
import fcis_tf
from fcis_tf import FCIS
model = keras.saving.load_model(sys.argv[1])
config = fcis_tf.load_config(None, sys.argv[3:])
model.fit(fcis_tf.training_data(config), steps_per_epoch=2, verbose=0)
np.savez(sys.argv[2], *[weight.numpy() for weight in model.weights])
"""


def test_a_fresh_process_loads_a_compiled_model_and_goes_on(records, tmp_path):
    changes = ["train.optimizer=adam", "train.batch_size=1"]
    config = configure(records, *changes)
    model = build(config)
    data = fcis_tf.training_data(config)
    model.fit(data, steps_per_epoch=2, verbose=0)
    model.save(tmp_path / "a.keras")
    model.fit(data, steps_per_epoch=2, verbose=0)
    given = [*TINY, f"data.train={records}", *changes]
    command = [sys.executable, "-c", GO_ON, str(tmp_path / "a.keras"), str(tmp_path / "a.npz")]
    subprocess.run([*command, *given], check=True, timeout=600)
    found = np.load(tmp_path / "a.npz")
    for name, weight in zip(found.files, model.weights, strict=True):
        np.testing.assert_allclose(found[name], weight, atol=1e-6, err_msg=weight.path)


def test_what_fit_cannot_do_is_one_line(records):
    config = configure(records)
    optimizer, losses = fcis_tf.build_optimizer(config.train), fcis_tf.Losses(config.train)
    with mirrored_strategy("/cpu:0", "/cpu:1").scope():
        model = FCIS(config)
    with pytest.raises(FcisError, match=r"expected a Keras optimizer, found None: compile\("):
        model.compile(loss=losses)
    with pytest.raises(FcisError, match=r"expected fcis_tf.Losses as loss, found 'mse'"):
        model.compile(optimizer, "mse")
    with pytest.raises(FcisError, match="float16"):
        FCIS(config, precision="float16").compile(optimizer, losses)
    with pytest.raises(FcisError, match="steps_per_execution is 2 and Keras' fit takes 1 on 2"):
        model.compile(optimizer, losses, steps_per_execution=2)
    for change, message in {
        "train.ema=0.5": "train.ema is 0.5, which fit ignores; add the callback",
        "train.clip_norm=1.0": "train.clip_norm is 1.0, .* set it to null, or train with `fcis",
        "train.accumulate=2": "train.accumulate is 2, .* set it to 1",
    }.items():
        losses = fcis_tf.Losses(configure(records, change).train)
        with pytest.raises(FcisError, match=message):
            losses.check(model)
    none = load_config(None, TINY)
    for call in (fcis_tf.training_data, fcis_tf.validation_data, fcis_tf.CocoMetrics):
        with pytest.raises(FcisError, match=r"data\.\w+: no \w+ records configured"):
            call(none)
