"""Where a training runs, and that it can be repeated."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from fcis_tf.errors import FcisError
from fcis_tf.training.distributed.strategy import choose_strategy, mirrored_strategy
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
REPEATED = ["train.steps=10", "train.deterministic=true", "data.color_jitter=0.2", "train.ema=0.5"]
LONG = 900  # s; on a free machine they need 20
ONE_DEVICE = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


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


@pytest.fixture(scope="module")
def one_process(records, tmp_path_factory):
    """Weights of ten steps of two images on one device, twice, in processes of their own."""
    runs = tmp_path_factory.mktemp("one")
    started = [
        subprocess.Popen(
            train_command(records, runs / name, "train.accumulate=2", *REPEATED),
            env=ONE_DEVICE,
            stderr=subprocess.PIPE,
        )
        for name in ("first", "second")
    ]
    for process in started:
        _, printed = process.communicate(timeout=LONG)
        assert process.returncode == 0, printed
    return [fixtures.read_h5(runs / name / "best.weights.h5") for name in ("first", "second")]


@pytest.mark.slow
def test_deterministic_runs_are_equal_to_the_bit(one_process):
    first, second = one_process
    assert first.keys() == second.keys() and len(first) > 20
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.slow
def test_two_hosts_make_the_weights_of_one_also_after_one_was_lost(records, one_process, tmp_path):
    """The second host dies at step 3; the first one says so, and the same command continues."""
    run = tmp_path / "run"
    command = train_command(records, run, "train.checkpoint_every=1", *REPEATED)
    mortal = [command[0], str(dies(tmp_path, step=3)), *command[3:]]
    broken = launch(mortal)
    assert broken.returncode == 128 + 9
    lines = [line for line in broken.stderr.splitlines() if "error" in line]
    assert len(lines) == 1 and re.match(r"error: lost 127\.0\.0\.1:\d+, one of 2 hosts", lines[0])
    assert "Traceback" not in broken.stdout + broken.stderr
    assert not (run / "best.weights.h5").exists()

    whole = launch(command)
    assert whole.returncode == 0, whole.stderr
    assert "3 of 10 taken, 2 images a step" in whole.stdout
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").open()]
    assert steps == sorted(set(steps)) and steps[-1] == 10
    found = fixtures.read_h5(run / "best.weights.h5")
    expected = one_process[0]
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if isinstance(values, bytes):  # what the file says of the weights, their AP for example
            continue
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)


def launch(command):
    """Two workers on this machine, on ports that are free."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        two.bind(("127.0.0.1", port + 1))
    process = subprocess.Popen(
        ["bash", "scripts/deploy/launch_workers.sh", "2", *command],
        env={**ONE_DEVICE, "PORT": str(port), "GRACE": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed = process.communicate(timeout=LONG)
    finally:  # workers may ignore all but KILL
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, *printed)


def dies(folder, step):
    """`fcis`, but the second worker is killed when it has taken so many steps."""
    script = folder / "dies.py"
    script.write_text(
        "import os, signal\n"
        "from fcis_tf.cli import main\n"
        "from fcis_tf.tf_logging import import_tensorflow\n"
        "os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n"
        "import_tensorflow()\n"
        "from fcis_tf.training.checkpoints import Checkpoints\n"
        "save = Checkpoints.save\n"
        "def die(self):\n"
        f"    if not self.write and int(self.state.step) == {step}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    save(self)\n"
        "Checkpoints.save = die\n"
        "main()\n"
    )
    return script


@pytest.mark.parametrize(
    "value",
    [
        "nonsense",
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}',
    ],
)
def test_a_wrong_tf_config_is_one_line(monkeypatch, value):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(FcisError, match="TF_CONFIG: expected workers alone, such as"):
        choose_strategy()
