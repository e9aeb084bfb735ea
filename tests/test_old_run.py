"""Runs that an earlier version made load, evaluate to the same numbers and continue.

The archive in tests/old_run/ holds two runs of that version, with what it reported of them; its
README.md says how they were made.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

import fcis_tf
from fcis_tf.weights.weight_files import load_weights
from tests.test_cli import call

ROOT = Path(__file__).resolve().parents[1]
ARCHIVE = ROOT / "tests" / "old_run" / "old_run.tar.xz"
RUNS = {"group": 30, "batch": 20}  # norm of a run: steps it has taken
MORE = 3  # steps that the earlier version went on for
LOSSES = ("rpn_class", "rpn_box", "roi_class", "roi_box", "roi_mask", "total")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The folder in which the runs were made: runs, records and expected."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def train(old, config, run, *changes):
    """`fcis train` in a process of its own, on one processor."""
    command = [sys.executable, "-m", "fcis_tf", "train", "--config", config, "--run", run]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [*command, "train.log_every=1", *changes],
        cwd=old, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def later(file, step):
    """The lines of a ``metrics.jsonl`` after a step, by kind."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [row for row in rows if row["step"] > step]
    return {kind: [r for r in rows if r["kind"] == kind] for kind in ("train", "evaluation")}


def assert_same_steps(found, expected):
    """Lines of ``metrics.jsonl``: the same steps, losses, gradient norms and learning rates."""
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for key in (*(f"loss/{name}" for name in LOSSES), "gradient_norm", "learning_rate"):
        values = [[row[key] for row in rows] for rows in (found, expected)]
        assert values[0] == pytest.approx(values[1], rel=1e-5), key


def assert_same_metrics(found, expected, path="metrics"):
    """Every value of the earlier version is there, and equal; later versions may report more."""
    if isinstance(expected, dict):
        for key in expected.keys() - {"seconds_per_image"}:
            assert_same_metrics(found[key], expected[key], f"{path}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for number, value in enumerate(expected):
            assert_same_metrics(found[number], value, f"{path}/{number}")
    else:
        assert found == (
            expected if isinstance(expected, str) else pytest.approx(expected, abs=1e-6)
        ), path


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_evaluates_to_the_same_numbers(name, old, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(old)
    code, _, err = call(monkeypatch, capsys, "evaluate", "--run", f"runs/{name}", "--out", tmp_path)
    assert code == 0, err
    found, expected = (
        [json.loads((folder / file).read_text()) for file in ("metrics.json", "results.json")]
        for folder in (tmp_path, old / "expected" / name)
    )
    assert expected[0]["mask"]["AP"] > 0.01 and len(expected[1]) > 100
    assert_same_metrics(found[0], expected[0])
    assert len(found[1]) == len(expected[1])
    for key in ("image_id", "category_id"):
        assert [row[key] for row in found[1]] == [row[key] for row in expected[1]]
    scores = [[row["score"] for row in rows] for rows in (found[1], expected[1])]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    boxes = [np.array([row["bbox"] for row in rows]) for rows in (found[1], expected[1])]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_continues_as_the_earlier_version_did(name, old, tmp_path):
    run, steps = shutil.copytree(old / "runs" / name, tmp_path / "run"), RUNS[name]
    changes = [f"train.steps={steps + MORE}"]
    if name == "batch":
        changes.append("data.validation=null")  # evaluating one of the runs is enough
    train(old, run / "config.yaml", run, *changes)
    found = later(run / "metrics.jsonl", steps)
    expected = later(old / "expected" / name / "resumed.jsonl", steps)
    assert_same_steps(found["train"], expected["train"])
    if name == "group":  # the moving average of its weights
        assert [row["step"] for row in found["evaluation"]] == [steps + MORE]
        for kind in ("mask", "box"):
            assert_same_metrics(found["evaluation"][0][kind], expected["evaluation"][0][kind])


@pytest.mark.slow
def test_a_training_starts_from_the_weights_of_an_old_run(old, tmp_path):
    changes = ["train.init=runs/group", "train.steps=1", "data.validation=null"]
    train(old, "runs/group/config.yaml", tmp_path / "run", *changes)
    found = later(tmp_path / "run" / "metrics.jsonl", 0)
    expected = later(old / "expected" / "started.jsonl", 0)
    assert_same_steps(found["train"], expected["train"])


def test_old_records_are_read(old, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(old)
    options = ["--out", tmp_path / "drawn", "--limit", 1]
    code, out, err = call(monkeypatch, capsys, "inspect", "records/train", *options)
    assert code == 0 and "8 images, 33 instances" in out, err


def test_old_files_of_a_resnet_name_every_variable_as_today(old, tmp_path):
    """Each array of the files, which are too large to keep, is that of the same variable."""
    before = json.loads((old / "expected" / "resnet50.json").read_text())
    config = fcis_tf.load_config(None, before["overrides"])
    model = fcis_tf.FCIS.from_config(config)
    variables = {"/".join(v.path.split("/")[-2:]): v for v in model.weights}
    rows = before["variables"]
    assert {row["name"]: row["shape"] for row in rows} == {
        name: list(v.shape) for name, v in variables.items()
    }
    with h5py.File(tmp_path / "old.weights.h5", "w") as file:
        for number, row in enumerate(rows):
            file[row["file"]] = np.full(row["shape"], number, np.float32)
    load_weights(model, tmp_path / "old.weights.h5")
    for number, row in enumerate(rows):
        values = variables[row["name"]].numpy()
        assert values.min() == values.max() == number, row
    reader = tf.train.load_checkpoint(tf.train.Checkpoint(model=model).write(str(tmp_path / "c")))
    for number, row in enumerate(rows):
        values = reader.get_tensor(row["checkpoint"])
        assert values.min() == values.max() == number, row
    # The optimiser's slots are a list in the order of the weights that are trained.
    trained = ["/".join(v.path.split("/")[-2:]) for v in model.trainable_variables]
    assert trained == before["trained"]
