"""Kill a training again and again, and compare it with an undisturbed one.

python -m tests.training.kill_and_resume --kills 20 WORK
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml

from tests import fixtures

PATIENCE = 600  # seconds without a sign of life
CONFIG = {
    "data": {
        "short_sides": [64],
        "validation_short_side": 64,
        "mask_size": 14,
        "color_jitter": 0.2,
    },
    "proposals": {"train_count": 20, "predict_count": 20},
    "predict": {"mask_size": 14},
    "train": {
        "batch_size": 2,
        "optimizer": "adam",
        "learning_rate": 2e-3,
        "sampling": "random",
        "roi_batch": 16,
        "warmup_steps": 0,
        "ema": 0.9,
        "log_every": 1,
        "pictures": 1,
        "deterministic": True,
        "checkpoint_every": 2,
    },
}


class Trial:
    """The same training twice, in folders of their own: undisturbed, and killed.

    Args:
        work: empty folder.
        steps: of the training.
        seed: of the moments.
        evaluated: in the middle and at the end, or never.
    """

    def __init__(self, work: Path, steps: int, seed: int, *, evaluated: bool) -> None:
        self.work, self.steps, self.draw = work, steps, random.Random(seed)
        self.killed, self.whole = work / "killed", work / "whole"
        rng = np.random.default_rng(0)
        rows = [fixtures.make_record(rng, str(n), instances=2, kind="JPEG") for n in range(6)]
        records = str(fixtures.write_records(work / "records", rows))
        train = CONFIG["train"] | {"steps": steps, "evaluate_every": steps // 2}
        self.evaluations = [steps // 2, steps] if evaluated else []
        data = CONFIG["data"] | {"train": records, "validation": records if evaluated else None}
        config = CONFIG | {"data": data, "train": train}
        (work / "config.yaml").write_text(yaml.safe_dump(config))

    def start(self, run: Path, *changes: str) -> subprocess.Popen:
        """`fcis train` in a process of its own; its output goes to a file beside the run."""
        command = [sys.executable, "-m", "fcis_tf", "train", "--config", self.work / "config.yaml"]
        with run.with_suffix(".log").open("a") as log:
            return subprocess.Popen(
                [*command, "--run", run, *fixtures.TINY, *changes], stdout=log, stderr=log
            )

    def run_undisturbed(self) -> None:
        """All of its checkpoints stay, to compare with."""
        process = self.start(self.whole, "train.keep_checkpoints=10000")
        if process.wait() != 0:
            raise AssertionError(self.whole.with_suffix(".log").read_text())
        self.expected = {}
        for path in (self.whole / "checkpoints").glob("*.index"):
            content = read_checkpoint(path.with_suffix(""))
            self.expected[step_of(content)] = content

    def kill(self, during_write: bool) -> str:
        """Start it, let it take some steps, kill it, and compare what it has left.

        Args:
            during_write: kill it when a checkpoint is half-written.

        Returns:
            What was found, in words.
        """
        before = self.lines()
        process = self.start(self.killed)
        wanted = before + self.draw.randint(1, 5)
        last = time.monotonic() + PATIENCE
        while self.lines() < wanted:
            self.check_alive(process, last)
            time.sleep(0.005)
        if during_write:
            while not any("_temp" in p.name for p in (self.killed / "checkpoints").glob("*")):
                self.check_alive(process, last)
                time.sleep(0.0005)
        else:
            time.sleep(self.draw.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        partial = "half a checkpoint, " if self.is_partial() else ""
        step = self.compare_newest()
        return f"{partial}the newest whole one is of step {step} and equal to the bit"

    def is_partial(self) -> bool:
        """Whether a checkpoint was being written."""
        return any("_temp" in path.name for path in (self.killed / "checkpoints").glob("*"))

    def check_alive(self, process: subprocess.Popen, last: float) -> None:
        if process.poll() is not None or time.monotonic() > last:
            process.kill()
            raise AssertionError(
                f"exit status {process.returncode} before it could be killed:\n"
                + self.killed.with_suffix(".log").read_text()[-3000:]
            )

    def lines(self) -> int:
        """Steps that ``metrics.jsonl`` speaks of."""
        path = self.killed / "metrics.jsonl"
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    def compare_newest(self) -> int:
        """The newest checkpoint that can be read must equal the undisturbed run; its step."""
        numbers = [
            int(path.stem.split("-")[1])
            for path in (self.killed / "checkpoints").glob("ckpt-*.index")
        ]
        for number in sorted(numbers, reverse=True):
            try:
                found = read_checkpoint(self.killed / "checkpoints" / f"ckpt-{number}")
            except Exception as fault:
                print(f"ckpt-{number} cannot be read: {type(fault).__name__}")
                continue
            assert_equal(found, self.expected[step_of(found)])
            return step_of(found)
        return 0

    def finish(self) -> None:
        """Let the killed run come to its end, which must be that of the undisturbed one."""
        if self.start(self.killed).wait() != 0:
            raise AssertionError(self.killed.with_suffix(".log").read_text()[-3000:])
        assert self.compare_newest() == self.steps
        assert_equal(*(fixtures.read_h5(run / "best.weights.h5") for run in self.runs))
        first, second = ((run / "metrics.json").read_bytes() for run in self.runs)
        assert first == second
        rows = [json.loads(line) for line in (self.killed / "metrics.jsonl").open()]
        steps = [row["step"] for row in rows if row["kind"] == "train"]
        assert steps == list(range(1, self.steps + 1)), steps
        evaluations = [row["step"] for row in rows if row["kind"] == "evaluation"]
        assert evaluations == self.evaluations, evaluations

    @property
    def runs(self) -> tuple[Path, Path]:
        return self.killed, self.whole


def read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    """All that a checkpoint holds, by name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(prefix))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if "OBJECT_GRAPH" not in name}


def step_of(content: dict[str, np.ndarray]) -> int:
    return int(content["state/step/.ATTRIBUTES/VARIABLE_VALUE"])


def assert_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """Equal names and equal bits."""
    assert first.keys() == second.keys() and len(first) > 20
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def try_kills(work: Path, kills: int, *, seed: int = 0, evaluated: bool = True) -> None:
    """The whole trial; every second kill waits for a checkpoint that is being written."""
    trial = Trial(work, 10 * (kills + 1), seed, evaluated=evaluated)
    trial.run_undisturbed()
    writing = 0
    for number in range(1, kills + 1):
        text = trial.kill(during_write=number % 2 == 0)
        writing += text.startswith("half")
        print(f"kill {number} of {kills}: {text}", flush=True)
    trial.finish()
    print(
        f"{kills} of {kills}: killed at {kills} moments, {writing} of them with half a checkpoint "
        f"written, it ended at step {trial.steps} with the weights of an undisturbed run"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder to work in; emptied first")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True)
    try_kills(given.work, given.kills, seed=given.seed)
