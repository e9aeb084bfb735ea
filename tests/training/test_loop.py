"""The real loop, on a tiny data set, in a few steps."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import load_config
from fcis_tf.errors import FcisError
from fcis_tf.evaluation.run import evaluate
from fcis_tf.model import precision
from fcis_tf.prediction.load import load_run
from fcis_tf.prediction.output import OutputOptions
from fcis_tf.prediction.predict_files import predict_files
from fcis_tf.training import loop, step
from fcis_tf.training.logger import read_lines
from fcis_tf.training.stopping import Stopped
from tests import fixtures

TINY = [
    *fixtures.TINY,
    "proposals.train_count=20",
    "proposals.predict_count=20",
    "data.short_sides=[60]",
    "data.validation_short_side=60",
    "data.mask_size=14",
    "data.cache=true",
    "train.optimizer=adam",
    "train.learning_rate=2e-3",
    "train.sampling=random",
    "train.roi_batch=16",
    "train.warmup_steps=0",
    "train.ema=0.9",
    "train.pictures=1",
    "train.log_every=1",
    "predict.mask_size=14",
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [fixtures.make_record(rng, str(n), instances=2, kind="JPEG") for n in range(4)]
    return fixtures.write_records(tmp_path_factory.mktemp("loop"), rows)


def configure(records, *changes):
    data = [f"data.train={records}", f"data.validation={records}"]
    return load_config(None, [*TINY, *data, *changes])


def one_device():
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def weights(run):
    return load_run(run)[2].get_weights()


@pytest.fixture(scope="module")
def finished(records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    metrics = loop.train(configure(records, "train.steps=6"), run, strategy=one_device())
    return run, metrics


def test_a_run_directory_is_enough_for_what_follows(finished, tmp_path):
    run, metrics = finished
    assert metrics == json.loads((run / "metrics.json").read_text()) and metrics["step"] == 6
    again = evaluate(run)
    assert again.to_dict()["mask"] == pytest.approx(metrics["mask"], abs=1e-6)
    assert json.loads((run / "evaluation" / "metrics.json").read_text())["images"] == 4
    rng = np.random.default_rng(5)
    picture = fixtures.encode_image(rng.integers(0, 256, (70, 50, 3), dtype=np.uint8), "JPEG")
    (tmp_path / "a.jpg").write_bytes(picture)
    written = predict_files(run, [tmp_path], tmp_path / "out", OutputOptions(0.0, score_maps=True))
    assert sorted(p.name for p in written) == ["a.png", "a_score_maps.png"]
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert all(row["image_id"] == "a.jpg" and row["category_id"] in fixtures.NAMES for row in found)


def test_tensorboard_holds_losses_metrics_and_pictures(finished):
    def tags(folder):
        names = set()
        for file in folder.glob("events*"):
            for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
                names |= {v.tag for v in tf.compat.v1.Event.FromString(record).summary.value}
        return names

    run, _ = finished
    losses = {"rpn_class", "rpn_box", "roi_class", "roi_box", "roi_mask", "total"}
    others = {"learning_rate", "gradient_norm", "data_wait", "images_per_second", "configuration"}
    assert {f"loss/{name}" for name in losses} | others <= tags(run / "train")
    assert {"mask/AP", "box/AP50", "truth_and_prediction/0"} <= tags(run / "validation")


def stop_at(monkeypatch, wanted, act):
    """Call `act` when the loop checks the numbers of step `wanted`."""
    check = loop.check_finite

    def acting(row, step, *rest):
        if step == wanted:
            act()
        check(row, step, *rest)

    monkeypatch.setattr(loop, "check_finite", acting)


def test_a_stopped_run_continues_even_from_a_damaged_checkpoint(
    finished, records, tmp_path, monkeypatch, capsys
):
    config = configure(records, "train.steps=6", "train.checkpoint_every=3")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped, match="stopped by SIGTERM; the same command continues"):
            loop.train(config, run, strategy=one_device())
    assert "checkpoint of step 4 in" in capsys.readouterr().out
    assert [row["step"] for row in read_lines(run)] == [1, 2, 3, 4]
    index = run / "checkpoints" / "ckpt-2.index"  # of step 4
    index.write_bytes(index.read_bytes()[:100])
    for file in (run / "train").glob("events*"):
        file.unlink()
    metrics = loop.train(config, run, strategy=one_device())
    printed = capsys.readouterr().out
    assert "ckpt-2: damaged, taking the one before" in printed and "3 of 6 taken" in printed
    assert metrics["step"] == 6
    rows = [(row["kind"], row["step"]) for row in read_lines(run)]
    assert rows == [*(("train", n) for n in range(1, 7)), ("evaluation", 6)]
    for a, b in zip(weights(run), weights(finished[0]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_run_continues_with_another_precision_and_states_it(
    finished, records, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(finished[0], tmp_path / "run")
    monkeypatch.setattr(precision, "processor_flags", frozenset)
    config = configure(records, "train.steps=7", "train.precision=auto")
    assert loop.train(config, run, strategy=one_device())["step"] in (6, 7)
    text = capsys.readouterr().out
    assert "compute  float32 (auto: the processor has no bfloat16 arithmetic)" in text
    assert "6 of 7 taken" in text
    saved, _, model = load_run(run)
    # Resolved anew on every machine.
    assert (saved.train.precision, model.precision) == ("auto", "float32")


def test_lost_best_weights_are_made_again(finished, records, tmp_path, capsys):
    run = shutil.copytree(finished[0], tmp_path / "run")
    content = (run / "best.weights.h5").read_bytes()
    (run / "best.weights.h5").write_bytes(content[: len(content) // 2])
    (run / "metrics.json").unlink()
    metrics = loop.train(configure(records, "train.steps=6"), run, strategy=one_device())
    assert "best.weights.h5: damaged; the next evaluation replaces it" in capsys.readouterr().out
    assert metrics["mask"] == pytest.approx(finished[1]["mask"], abs=1e-6)
    for a, b in zip(weights(run), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [row["kind"] for row in read_lines(run)].count("evaluation") == 1


def test_patience_ends_a_run_that_gets_no_better(records, tmp_path):
    still = ["train.learning_rate=0", "train.ema=0", "train.evaluate_every=1"]
    config = configure(records, "train.steps=50", "train.patience=2", *still)
    loop.train(config, tmp_path / "run", strategy=one_device())
    rows = [(row["kind"], row["step"]) for row in read_lines(tmp_path / "run")]
    assert rows == [(kind, n) for n in (1, 2, 3) for kind in ("train", "evaluation")]
    loop.train(config, tmp_path / "run", strategy=one_device())  # and stays ended
    assert len(read_lines(tmp_path / "run")) == len(rows)


def test_a_finished_run_is_not_trained_again(finished, records):
    run, metrics = finished
    before = weights(run)
    assert loop.train(configure(records, "train.steps=6"), run, strategy=one_device()) == metrics
    for a, b in zip(before, weights(run), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_training_lowers_the_loss_and_finds_the_instances(records, tmp_path):
    config = configure(records, "train.steps=150", "train.evaluate_every=150", "train.ema=0")
    metrics = loop.train(config, tmp_path / "run", strategy=one_device())
    assert metrics["mask"]["AP50"] > 0.3  # of its own four images; untrained it is 0


def test_a_training_starts_from_given_weights(finished, records, tmp_path):
    """With a rate of 0 they come out as they went in; here on the released code's way."""
    changes = ["train.steps=1", "train.learning_rate=0", "train.optimizer=sgd", "train.ema=0"]
    config = configure(records, "parity=released", f"train.init={finished[0]}", *changes)
    metrics = loop.train(config, tmp_path / "run", strategy=one_device())
    for a, b in zip(weights(tmp_path / "run"), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    again = evaluate(finished[0], overrides=["parity=released"], out=tmp_path)
    assert again.mask == pytest.approx(metrics["mask"], abs=1e-6)
    missing = configure(records, "train.init=nowhere.params", "train.steps=1")
    with pytest.raises(FcisError, match=r"nowhere\.params: no such weights"):
        loop.train(missing, tmp_path / "other", strategy=one_device())


def test_a_loss_that_is_not_finite_stops_with_step_term_and_images(records, tmp_path, monkeypatch):
    real = step.compute_losses

    def poisoned(model, batch, train):
        losses = real(model, batch, train)
        bad = tf.reduce_any(batch["image_id"] == "2")
        return losses | {"roi_box": tf.where(bad, np.nan, losses["roi_box"])}

    monkeypatch.setattr(step, "compute_losses", poisoned)
    config = configure(records, "train.steps=50", "train.steps_per_call=3")
    with pytest.raises(FcisError, match=r"step \d+: loss roi_box is nan on images 2; checkpoints"):
        loop.train(config, tmp_path / "run", strategy=one_device())
    assert not (tmp_path / "run" / "best.weights.h5").exists()


def test_a_run_of_another_configuration_is_refused(finished, records):
    run, _ = finished
    with pytest.raises(FcisError, match="model.head_channels is 16 there and 24 here"):
        loop.train(configure(records, "model.head_channels=24"), run, strategy=one_device())
    with pytest.raises(FcisError, match="holds a run already"):
        loop.train(configure(records), run, resume=False, strategy=one_device())


def test_faults_of_the_configuration_are_named(records, tmp_path):
    with pytest.raises(FcisError, match="data.train: no training records configured"):
        loop.train(load_config(None, TINY), tmp_path / "run")
    with pytest.raises(FcisError, match="train.patience: there is no AP to wait for"):
        changes = ["train.patience=1", "data.validation=null"]
        loop.train(configure(records, *changes), tmp_path / "run")
    with pytest.raises(FcisError, match="model.classes: 7 configured, the labels have 3"):
        loop.train(configure(records, "model.classes=7"), tmp_path / "run")


def test_records_of_other_classes_stop_with_one_line(records, tmp_path):
    (tmp_path / "labels.json").write_text('[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]')
    config = configure(records, f"data.labels={tmp_path / 'labels.json'}", "train.steps=2")
    with pytest.raises(FcisError, match="step 1: .*categor"):
        loop.train(config, tmp_path / "run", strategy=one_device())


def test_run_directories_are_checked(tmp_path):
    with pytest.raises(FcisError, match="not a run directory"):
        load_run(tmp_path)
