"""`fcis benchmark`: measure, print tables, write JSON."""

import datetime
import os
import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from fcis_tf import __version__
from fcis_tf.benchmark.assembly import BACKBONE, backward_name, forward_name, measure_assembly
from fcis_tf.benchmark.network import noise, random_network
from fcis_tf.benchmark.prediction import (
    CONFIGURED,
    CONVOLUTIONS,
    WHOLE,
    measure_stages,
    measure_variants,
)
from fcis_tf.benchmark.timing import quartiles
from fcis_tf.benchmark.training import OHEM, RANDOM, measure_training
from fcis_tf.config import Config
from fcis_tf.errors import FcisError
from fcis_tf.files import write_json
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.precision import resolve_precision
from fcis_tf.ops.library import load, use_custom
from fcis_tf.progress import Progress

CLASSES = 80  # where the configuration leaves them to the labels
MEASUREMENTS = ("stages", "variants", "assembly", "training")
PASSES = (forward_name, backward_name)
COUNTS = ("proposals", "detections")


def benchmark(
    config: Config,
    *,
    height: int,
    width: int,
    only: Sequence[str] = MEASUREMENTS,
    rois: Sequence[int] = (100, 300, 1000, 2000),
    rounds: int = 7,
    out: Path | None = None,
) -> dict[str, Any]:
    """Time a network of random weights on an image of noise, print tables and write JSON.

    Args:
        config: what to measure; `CLASSES` classes unless it says otherwise.
        height: of the image.
        width: of the image.
        only: which of `MEASUREMENTS`.
        rois: numbers of proposals to compare.
        rounds: timed rounds.
        out: JSON file to write, or None.

    Raises:
        FcisError: an unknown measurement, or a configuration with the released voting.

    Returns:
        The content of the JSON file: machine, setting, and for each measurement the median and
        quartiles of the seconds, and ratios.
    """
    unknown = sorted(set(only) - set(MEASUREMENTS))
    if unknown:
        raise FcisError(f"only: expected some of {', '.join(MEASUREMENTS)}, found {unknown[0]!r}")
    if config.predict.voting.startswith("released"):
        raise FcisError("predict.voting: released voting is not timed; set soft, binary or none")
    if config.model.classes is None:
        settings = config.model.model_copy(update={"classes": CLASSES})
        config = config.model_copy(update={"model": settings})
    # Class scores of random weights are all about 1 / K, below the usual threshold.
    lenient = config.predict.model_copy(update={"score_threshold": 0.0})
    config = config.model_copy(update={"predict": lenient})
    image = noise(height, width)
    model = random_network(config, image)
    console = Console(width=None if sys.stdout.isatty() else 100)
    content: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "setting": describe_setting(config, height, width, rounds),
    }
    for key, value in (content["machine"] | content["setting"]).items():
        console.print(f"{key:12} {value}", highlight=False, soft_wrap=True)
    for name in MEASUREMENTS:
        if name not in only:
            continue
        with Progress(name, unit="rounds") as progress:
            content[name] = _measure(name, model, image, rois, rounds, progress)
        console.print(_table(name, content[name]))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, content)
    return content


def describe_machine() -> dict[str, str]:
    """Processor, GPUs, threads and versions."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    threads = tf.config.threading.get_intra_op_parallelism_threads() or "all"
    return {
        "processor": _processor_name(),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} usable, {threads} threads",
        "GPUs": ", ".join(str(name) for name in names) or "none",
        "versions": f"fcis_tf {__version__}, TensorFlow {tf.__version__}",
        "assembly": f"custom, {load().path}" if use_custom() else "stock operations",
    }


def describe_setting(config: Config, height: int, width: int, rounds: int) -> dict[str, str]:
    """Network, image and number of rounds."""
    return {
        "network": f"{config.model.backbone}, stride {config.model.output_stride}, "
        f"{config.model.classes} classes, " + resolve_precision(config.train.precision),
        "image": f"{height} x {width}, {config.proposals.predict_count} proposals, "
        f"{config.predict.iterations} passes, voting {config.predict.voting}",
        "rounds": f"{rounds}, everything in turn; median and quartiles",
    }


def peak_memory() -> dict[str, int]:
    """Peak memory of this process and of its first GPU, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"process": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    if tf.config.list_logical_devices("GPU"):
        peak["GPU:0"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return peak


def _measure(
    name: str, model: FCIS, image: np.ndarray, rois: Sequence[int], rounds: int, progress: Any
) -> dict[str, Any]:
    counts: dict[str, int] = {}
    if name == "stages":
        seconds, counts = measure_stages(model, image, rounds=rounds, progress=progress)
        pairs = [(WHOLE, CONVOLUTIONS)]
    elif name == "variants":
        seconds = measure_variants(model, image, rois, rounds=rounds, progress=progress)
        pairs = [(other, CONFIGURED) for other in seconds if other != CONFIGURED]
    elif name == "assembly":
        seconds = measure_assembly(model, image, rois, rounds=rounds, progress=progress)
        pairs = [(other, BACKBONE) for other in seconds if other != BACKBONE]
        for count in rois if use_custom() else ():
            pairs += [(of("custom", count), of("stock", count)) for of in PASSES]
    else:
        seconds = measure_training(model, image, rounds=rounds, progress=progress)
        pairs = [(OHEM, RANDOM)]
    return {
        **counts,
        "seconds": {key: quartiles(value)._asdict() for key, value in seconds.items()},
        "ratios": {
            f"{one} / {other}": quartiles(seconds[one] / seconds[other])._asdict()
            for one, other in pairs
        },
        "peak_memory": peak_memory(),
    }


def _table(name: str, measured: dict[str, Any]) -> Table:
    """Times in milliseconds, then ratios; medians with their quartiles."""
    memory = ", ".join(f"{k} {v / 2**30:.2f} GiB" for k, v in measured["peak_memory"].items())
    counts = "".join(f"{measured[key]} {key}, " for key in COUNTS if key in measured)
    table = Table(title=name, caption=f"{counts}peak memory {memory}", title_justify="left")
    table.add_column()
    for column in ("median", "lower quartile", "upper quartile"):
        table.add_column(column, justify="right")
    for key, (median, low, high) in _rows(measured["seconds"]):
        table.add_row(key, *(f"{1e3 * value:.1f} ms" for value in (median, low, high)))
    if WHOLE in measured["seconds"]:
        median, low, high = (1.0 / value for _, value in measured["seconds"][WHOLE].items())
        table.add_row("images/s", f"{median:.3f}", f"{high:.3f}", f"{low:.3f}")
    table.add_section()
    for key, values in _rows(measured["ratios"]):
        table.add_row(key, *(f"{value:.4f}" for value in values))
    return table


def _rows(quartiles_by_name: dict[str, dict[str, float]]) -> list[tuple[str, list[float]]]:
    return [(name, list(values.values())) for name, values in quartiles_by_name.items()]


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
