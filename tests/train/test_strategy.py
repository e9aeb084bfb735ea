"""Where a training runs, and that it can be repeated."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fcis_tf.train.strategy import mirrored_strategy
from tests import fixtures

TINY = [
    *fixtures.TINY,
    "proposals.train_count=20",
    "data.short_sides=[60]",
    "data.mask_size=14",
    "train.roi_batch=16",
    "train.warmup_steps=0",
    "train.learning_rate=1e-3",
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    rng = np.random.default_rng(0)
    sizes = [(60, 80), (70, 60), (60, 75), (60, 90)]
    rows = [
        fixtures.make_record(rng, str(n), *sizes[n % 4], instances=2, kind="JPEG") for n in range(8)
    ]
    return fixtures.write_records(tmp_path_factory.mktemp("strategy"), rows)


def train_command(records, run, *changes):
    """`fcis train` on an empty configuration, in a process of its own."""
    (run.parent / "empty.yaml").touch()
    settings = [f"data.train={records}", *TINY, *changes]
    command = [sys.executable, "-m", "fcis_tf", "train", "--config", str(run.parent / "empty.yaml")]
    return [*command, "--run", str(run), *settings]


def test_the_same_devices_have_one_strategy():
    """However they are named: TensorFlow refuses a second one over the same devices."""
    named = mirrored_strategy("/cpu:0", "/cpu:1")
    assert mirrored_strategy() is named
    assert mirrored_strategy("/device:CPU:0", "/device:CPU:1") is named
    assert mirrored_strategy("/cpu:0") is not named


@pytest.mark.slow
def test_deterministic_runs_are_equal_to_the_bit(records, tmp_path):
    weights = []
    for name in ("one", "two"):
        command = train_command(
            records, tmp_path / name, "train.steps=5", "train.batch_size=2",
            "train.deterministic=true", "data.color_jitter=0.2",
        )  # fmt: skip
        subprocess.run(command, check=True, timeout=240, env=os.environ, capture_output=True)
        weights.append(tmp_path / name / "best.weights.h5")
    first, second = map(fixtures.read_h5, weights)
    assert first.keys() == second.keys() and len(first) > 20
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
