"""The record of a run: a progress line, ``metrics.jsonl`` and TensorBoard."""

import json
import math
import resource
import statistics
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import tensorflow as tf
import yaml

from fcis_tf.config import Config
from fcis_tf.files import write_whole
from fcis_tf.progress import Progress
from fcis_tf.training.checkpoints import State
from fcis_tf.training.step import LOSSES
from fcis_tf.training.validation import Validation

LINES = "metrics.jsonl"
# The first steps of a process trace and warm up; the next few show how long the rest takes.
WARMING, TIMED = 3, 10


class RunLogger:
    """A context that writes down what the steps and the evaluations of a run give.

    Args:
        run: the run directory.
        start: steps taken before; later lines of ``metrics.jsonl`` are removed.
        evaluated: step of the last evaluation; likewise.
        steps: length of the run.
        every: steps of a line, whose numbers are means over them.
        images: of one step.
    """

    def __init__(
        self, run: Path, *, start: int, evaluated: int, steps: int, every: int, images: int
    ) -> None:
        self.steps, self.every, self.images = steps, every, images
        self.file = run / LINES
        _forget(self.file, {"train": start, "evaluation": evaluated})
        self.train = tf.summary.create_file_writer(str(run / "train"))
        self.validation = tf.summary.create_file_writer(str(run / "validation"))
        self.progress = Progress("training", total=steps, done=start, unit="steps")
        self.rows: list[dict[str, float]] = []  # of the steps since the last line
        self.durations: list[float] = []  # of the first few steps

    def __enter__(self) -> "RunLogger":
        self.progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.__exit__(kind, fault, trace)
        self.train.close()
        self.validation.close()

    def configuration(self, config: Config) -> None:
        """The resolved configuration for TensorBoard."""
        lines = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).splitlines()
        with self.train.as_default(0):
            tf.summary.text("configuration", "\n".join(f"    {line}" for line in lines))

    def step(
        self,
        number: int,
        row: dict[str, float],
        seconds: float,
        optimizer: keras.optimizers.Optimizer,
    ) -> None:
        """A training step.

        Args:
            number: from 1.
            row: what `TrainStep` says of it.
            seconds: that it took.
            optimizer: knows the learning rate.
        """
        self.rows.append({**row, "seconds": seconds})
        self.progress.update(number, note=self._note())
        self._estimate(number, seconds)
        if number % self.every == 0 or number == self.steps:
            self._line(number, float(optimizer.learning_rate))

    def evaluation(self, number: int, validation: Validation, state: State, *, best: bool) -> None:
        """An evaluation after a step, with pictures; `best`: its weights are kept."""
        if validation.metrics is None:
            return
        metrics = {"mask": validation.metrics.mask, "box": validation.metrics.box}
        self._write({"kind": "evaluation", "step": number, "time": _now(), "best": best, **metrics})
        with self.validation.as_default(number):
            for kind, values in metrics.items():
                for name, value in values.items():
                    tf.summary.scalar(f"{kind}/{name}", value)
            for place, picture in enumerate(validation.pictures()):
                tf.summary.image(
                    f"truth_and_prediction/{place}",
                    picture[None],
                    description="left: ground truth; right: prediction",
                )
        self.validation.flush()
        self.say(
            f"step {number}: mask AP {metrics['mask']['AP']:.3f} (best {float(state.best):.3f})"
        )

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.progress.say(text)

    def _note(self) -> str:
        """Loss terms of the newest step, share of time without data, memory."""
        newest = self.rows[-1]
        terms: dict[str, list[str]] = {"rpn": [], "roi": []}
        for name in LOSSES:
            part, _, term = name.partition("_")
            terms[part].append(f"{term} {newest[name]:.2f}")
        parts = ", ".join(f"{part} {' '.join(values)}" for part, values in terms.items())
        wait = sum(r["data_wait"] for r in self.rows) / sum(r["seconds"] for r in self.rows)
        return f"loss {newest['total']:.2f} ({parts}), data wait {wait:.0%}, {memory()}"

    def _estimate(self, number: int, seconds: float) -> None:
        """After the first few steps: how long the others will take."""
        if len(self.durations) >= WARMING + TIMED:
            return
        self.durations.append(seconds)
        if len(self.durations) == WARMING + TIMED and number < self.steps:
            seconds = statistics.fmean(self.durations[WARMING:]) * (self.steps - number)
            left = timedelta(seconds=round(seconds))
            self.say(f"about {left} for the other {self.steps - number} steps, evaluation apart")

    def _line(self, number: int, learning_rate: float) -> None:
        """Means over the steps since the last line, for scripts and TensorBoard."""
        mean = {key: statistics.fmean(row[key] for row in self.rows) for key in self.rows[0]}
        self.rows = []
        seconds = mean.pop("seconds")
        values = {f"loss/{name}": mean.pop(name) for name in (*LOSSES, "total")} | mean
        values |= {
            "data_wait": mean["data_wait"] / seconds,
            "learning_rate": learning_rate,
            "images_per_second": self.images / seconds,
        }
        self._write({"kind": "train", "step": number, "time": _now(), **values})
        with self.train.as_default(number):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self.train.flush()

    def _write(self, row: dict[str, Any]) -> None:
        # JSON has no word for infinity, which the norm of an update that float16 leaves out can be.
        row = {k: None if v in (math.inf, -math.inf) or v != v else v for k, v in row.items()}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


def read_lines(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``."""
    return [json.loads(line) for line in (run / LINES).read_text().splitlines()]


class NoLogger(RunLogger):
    """Writes nothing: that of the hosts but the first."""

    def __init__(self, run: Path, **options: Any) -> None:
        pass

    def __enter__(self) -> "NoLogger":
        return self

    def __exit__(self, *fault: Any) -> None:
        pass

    def configuration(self, config: Config) -> None:
        pass

    def step(self, *values: Any) -> None:
        pass

    def evaluation(self, *values: Any, **options: Any) -> None:
        pass

    def say(self, text: str) -> None:
        pass


def memory() -> str:
    """The most memory this process has had so far, and on each GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    used = [f"memory {peak / 1e9:.1f} GB"]
    for device in tf.config.list_logical_devices("GPU"):
        info = tf.config.experimental.get_memory_info(device.name)
        used.append(f"{device.name.rpartition('device:')[2]} {info['peak'] / 1e9:.1f} GB")
    return ", ".join(used)


def _forget(file: Path, last: dict[str, int]) -> None:
    """Remove what a killed process wrote of steps it had no checkpoint of, and half a line."""
    if not file.exists():
        return
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if line.endswith("\n") and row["step"] <= last[row["kind"]]:
            kept.append(line)
    if kept != lines:
        write_whole(file, "".join(kept))


def _now() -> float:
    return round(time.time(), 3)
