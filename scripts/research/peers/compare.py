"""Time FCIS and other instance segmentation in turn on one core, for `benchmark_peers.sh`.

Each model runs in a process of its own, in the virtual environment of its framework. The processes
wait while one of them works, and every round times all of them once, so that a change of the
machine's speed affects all of them. A ratio is the median over rounds of ours / peer.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from setting import CLASSES, DETECTIONS, HEIGHT, PROPOSALS, WIDTH

HERE = Path(__file__).resolve().parent
ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    )
}


class Model(NamedTuple):
    """A process to time: its title, environment (ours or a peer's), script and argument."""

    title: str
    environment: str
    script: str
    name: str


OURS_R101 = Model("FCIS ResNet-101", "ours", "ours.py", "fcis_r101")
OURS_R50 = Model("FCIS ResNet-50", "ours", "ours.py", "fcis_r50")
TORCHVISION_R101 = Model(
    "torchvision Mask R-CNN ResNet-101 FPN",
    "torchvision",
    "torchvision_mask_rcnn.py",
    "mask_rcnn_r101",
)
TORCHVISION_R50 = Model(
    "torchvision Mask R-CNN ResNet-50 FPN",
    "torchvision",
    "torchvision_mask_rcnn.py",
    "mask_rcnn_r50",
)
GARDEN_R50 = Model(
    "Model Garden Mask R-CNN ResNet-50 FPN", "garden", "garden_mask_rcnn.py", "mask_rcnn_r50"
)
PAIRS = [(OURS_R101, TORCHVISION_R101), (OURS_R50, TORCHVISION_R50), (OURS_R50, GARDEN_R50)]


class Worker:
    """The running process of a model.

    Args:
        model: what to run.
        python: interpreter of its virtual environment.
        core: the only core to use, or None.
        log: file that takes what it writes to standard error.
    """

    def __init__(self, model: Model, python: Path, core: int | None, log: Any) -> None:
        self.model, self.log = model, log
        self.answers: list[dict[str, Any]] = []
        command = [str(python), str(HERE / model.script), model.name]
        command += [] if core is None else ["--core", str(core)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | ONE_THREAD,
        )
        try:
            self.versions = self.answer()["versions"]
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def answer(self) -> dict[str, Any]:
        """The next line of JSON; other lines are what a framework prints."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.process.wait()
        self.log.seek(0)
        said = [line for line in self.log.read().splitlines() if line.strip()]
        last = said[-1].removeprefix("error: ") if said else "without a word"
        sys.exit(f"error: {self.model.title} ended with {self.process.returncode}: {last}")

    def go(self) -> float:
        """Seconds of one inference that did the whole work."""
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() says why
        found = self.answer()
        if (found["proposals"], found["detections"]) != (PROPOSALS, DETECTIONS):
            sys.exit(
                f"error: {self.model.title} had {found['proposals']} proposals and"
                f" {found['detections']} detections, not {PROPOSALS} and {DETECTIONS}: its time"
                f" does not compare; adjust {self.model.script}"
            )
        self.answers.append(found)
        return found["seconds"]

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each model is timed")
    parser.add_argument("--only", choices=["torchvision", "garden"], help="leave the other out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all times here")
    parser.add_argument(
        "--environments", type=Path, default=HERE.parents[2], help="folder of .venv-PEER"
    )
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds}: expected at least 1")
    if given.json and not given.json.parent.is_dir():
        parser.error(f"--json {given.json}: there is no folder {given.json.parent}; make it first")
    return given


def interpreter(environment: str, folder: Path) -> Path:
    """The Python of a virtual environment; ours is the one that runs this."""
    if environment == "ours":
        return Path(sys.executable)
    python = folder / f".venv-{environment}" / "bin" / "python"
    if not python.exists():
        script = "scripts/research/benchmark_peers.sh"
        sys.exit(f"error: {python} is missing; run bash {script}, which makes it")
    return python


def chosen(only: str | None) -> list[tuple[Model, Model]]:
    """The pairs (ours, peer) to compare."""
    return [pair for pair in PAIRS if only in (None, pair[1].environment)]


def one_core() -> int | None:
    """The last core that this process may use, where the system reports it."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def processor() -> str:
    """The name of the processor."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def summary(values: list[float]) -> dict[str, Any]:
    """Median, quartiles and the values themselves, for JSON."""
    low, middle, high = quartiles(values)
    return {"median": middle, "quartiles": [low, high], "rounds": values}


def measure(models: list[Model], given: argparse.Namespace, core: int | None) -> list[Worker]:
    """Start all models, one after the other, and time them in turn.

    Args:
        models: what to time.
        given: the command line.
        core: the core that all share, or None.
    """
    with ExitStack() as stack:
        workers = []
        for model in models:
            note(f"starting {model.title}")
            log = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            python = interpreter(model.environment, given.environments)
            workers.append(stack.enter_context(Worker(model, python, core, log)))
        for number in range(1, given.rounds + 1):
            times = ", ".join(f"{worker.go():.3f}" for worker in workers)
            note(f"round {number} of {given.rounds}: {times} s")
    return workers


def note(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def table(results: dict[Model, dict[str, Any]], ratios: list[dict[str, Any]]) -> Iterator[str]:
    """The lines to print.

    Args:
        results: summary of the seconds of each model.
        ratios: summaries, with the titles of both models.
    """
    yield f"{'model':<40} {'median s':>9} {'quartiles s':>16}"
    for model, result in results.items():
        low, high = result["seconds"]["quartiles"]
        yield f"{model.title:<40} {result['seconds']['median']:>9.3f} {low:>8.3f} {high:>7.3f}"
    yield ""
    yield f"{'ours / peer':<58} {'ratio':>6} {'quartiles':>14}"
    for ratio in ratios:
        low, high = ratio["quartiles"]
        pair = f"{ratio['ours']} / {ratio['peer']}"
        yield f"{pair:<58} {ratio['median']:>6.3f} {low:>7.3f} {high:>6.3f}"


def write(path: Path, content: Any) -> None:
    """Write JSON; the file appears only when it is whole."""
    partial = path.with_name("partial." + path.name)
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def main() -> None:
    """Measure, print the table and write the JSON."""
    given = arguments()
    pairs = chosen(given.only)
    models = list(dict.fromkeys(model for pair in pairs for model in pair))
    core = one_core()
    results = {
        worker.model: {
            "model": worker.model.title,
            "seconds": summary([answer["seconds"] for answer in worker.answers]),
            "proposals": PROPOSALS,  # go() accepts nothing else
            "detections": DETECTIONS,
            "versions": worker.versions,
        }
        for worker in measure(models, given, core)
    }
    ratios = []
    for ours, peer in pairs:
        both = (results[model]["seconds"]["rounds"] for model in (ours, peer))
        each = [first / second for first, second in zip(*both, strict=True)]
        ratios.append({"ours": ours.title, "peer": peer.title, **summary(each)})
    print("\n".join(table(results, ratios)))
    if given.json:
        machine = {
            "processor": processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        }
        work = {"height": HEIGHT, "width": WIDTH, "classes": CLASSES, "batch": 1, "threads": 1}
        write(
            given.json,
            {
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "machine": machine,
                "work": work,
                "models": list(results.values()),
                "ratios": ratios,
            },
        )


if __name__ == "__main__":
    main()
