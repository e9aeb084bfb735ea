"""The benchmark times what prediction and training really do."""

import json

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.benchmark import data, prediction, report, training
from fcis_tf.benchmark.assembly import random_rois
from fcis_tf.benchmark.network import as_predicted, noise, random_network
from fcis_tf.benchmark.timing import quartiles, take_turns
from fcis_tf.config import Config, load_config
from fcis_tf.data.records import load_labels
from fcis_tf.errors import FcisError
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.training.step import compute_losses
from tests import fixtures

SMALL = [
    "model.backbone=small", "model.norm=group", "model.output_stride=8", "model.head_channels=16",
    "model.rpn_channels=16", "model.classes=3", "data.validation_short_side=64",
    "data.mask_size=14", "predict.mask_size=14", "predict.max_detections=5",
    "predict.score_threshold=0", "model.anchor_sizes=[16, 32]", "proposals.predict_count=12",
    "proposals.train_count=12", "train.roi_batch=8",
]  # fmt: skip


def config(*overrides: str) -> Config:
    return load_config(None, [*SMALL, *overrides])


def test_functions_take_turns_and_warm_up_is_not_counted():
    calls = []
    work = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    taken = take_turns(work, rounds=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert [len(seconds) for seconds in taken.values()] == [3, 3]


def test_a_slower_function_takes_longer():
    small, large = tf.random.normal([8, 8]), tf.random.normal([700, 700])
    taken = take_turns({"small": lambda: small @ small, "large": lambda: large @ large}, rounds=5)
    assert quartiles(taken["small"]).median < quartiles(taken["large"]).median


def test_quartiles_equal_those_of_a_known_sample():
    assert quartiles(np.arange(5.0)) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize("passes", [1, 2])
def test_stages_make_the_detections_of_prediction(passes):
    image = noise(64, 80)
    model = random_network(config(f"predict.iterations={passes}"), image)
    stages = prediction.Stages(model, image)
    expected = Predictor(model).predict_image(image)
    present = stages.detections.valid[0].numpy()
    assert present.sum() == len(expected.boxes) > 0
    np.testing.assert_allclose(stages.detections.boxes[0][present], expected.boxes, atol=1e-4)
    np.testing.assert_array_equal(stages.detections.labels[0][present], expected.labels)
    for pasted, cutout in zip(stages.graphs["paste"](), expected.cutouts, strict=True):
        assert pasted.window == cutout.window
        np.testing.assert_array_equal(pasted.mask, cutout.mask)
    assert ("assembly, pass 2" in stages.graphs) == (passes == 2)


def test_variants_differ_in_speed_only():
    image = noise(64, 80)
    model = random_network(config(), image)
    made = prediction.variants(model, rois=[12, 3])
    assert "12 ROIs" not in made  # that is what is configured
    found = {name: predictor.predict_image(image) for name, predictor in made.items()}
    configured = found[prediction.CONFIGURED]
    np.testing.assert_allclose(found["stock operations"].boxes, configured.boxes, atol=1e-3)
    assert made["bfloat16"].model.precision == "bfloat16"
    assert made["3 ROIs"].model.config.proposals.predict_count == 3


def test_a_residual_network_of_random_weights_fills_all_proposals():
    # Without the scaled normalisation boxes cover the image and a handful survives suppression.
    image = noise(160, 160)
    settings = load_config(
        None, ["model.backbone=resnet50", "model.classes=3", "data.validation_short_side=160"]
    )
    model = random_network(settings, image)
    pixels, size, _ = as_predicted(image, settings)
    proposals = model.propose(model(pixels), size)
    assert int(tf.math.count_nonzero(proposals.valid)) > 100


def test_training_parts_add_up_to_the_step():
    image = noise(64, 80)
    model = random_network(config(), image)
    taken = training.measure_training(model, image, rounds=5)
    median = {name: quartiles(seconds).median for name, seconds in taken.items()}
    parts = sum(median[name] for name in ("forward", "targets", "backward", "update"))
    assert 0.5 < parts / median[training.OHEM] < 2.0


def test_the_training_batch_has_work_for_every_loss():
    image = noise(64, 80)
    model = random_network(config(), image)
    losses = compute_losses(model, training.random_batch(model, image), model.config.train)
    assert all(float(value) > 0.0 for value in losses.values())


def test_rois_are_inside_the_image():
    boxes = random_rois(500, tf.constant([[60.0, 100.0]]))[0].numpy()
    assert (boxes[:, :2] >= 0.0).all()
    assert (boxes[:, 2:] <= [60.001, 100.001]).all()
    assert (boxes[:, 2:] - boxes[:, :2] > 15.99).all()


def test_the_file_holds_what_was_measured(tmp_path, capsys):
    out = tmp_path / "new" / "speed.json"
    content = report.benchmark(
        config(), height=64, width=80, only=["stages", "assembly"], rois=[4], rounds=2, out=out
    )
    assert json.loads(out.read_text()) == content
    assert "training" not in content
    stages = content["stages"]
    for median, low, high in (timing.values() for timing in stages["seconds"].values()):
        assert 0.0 < low <= median <= high
    assert stages["proposals"] == 12
    assert "whole / convolutions alone" in stages["ratios"]
    assert "custom, 4 ROIs, forward / stock, 4 ROIs, forward" in content["assembly"]["ratios"]
    assert stages["peak_memory"]["process"] > 100e6
    printed = capsys.readouterr().out
    assert "assembly, pass 2" in printed
    assert "images/s" in printed


def test_unknown_measurements_and_untimed_voting_are_refused():
    with pytest.raises(FcisError, match=r"only: expected some of stages.*found 'speed'"):
        report.benchmark(config(), height=64, width=80, only=["speed"])
    with pytest.raises(FcisError, match=r"predict\.voting"):
        report.benchmark(config("predict.voting=released"), height=64, width=80)


def test_data_stages_add_up_to_the_pipeline_that_trains(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = [fixtures.make_record(rng, str(n), instances=2, kind="JPEG") for n in range(6)]
    records = fixtures.write_records(tmp_path / "records", rows)
    settings = config("data.short_sides=[60]", "data.shuffle_buffer=4", "train.batch_size=2")
    taken = data.measure_data(settings, records, load_labels(records), images=4, rounds=3)
    assert list(taken) == [*data.STAGES, data.WHOLE]
    np.testing.assert_allclose(sum(taken[name] for name in data.STAGES), taken[data.WHOLE])
    assert (taken[data.WHOLE] > 0).all()
    monkeypatch.setattr(data, "measure_data", lambda *_, **__: taken)
    out = tmp_path / "out" / "data.json"
    content = data.benchmark_data(settings, records, out=out)
    assert json.loads(out.read_text()) == content
    rate = content["images_per_second"]["median"]
    assert rate == pytest.approx(1 / np.median(taken[data.WHOLE]))
    decoding = (taken["image"] + taken["masks"]) / taken[data.WHOLE]
    assert content["decoding"]["median"] == pytest.approx(np.median(decoding))
