"""The input pipeline by stage: `fcis benchmark --data RECORDS`.

The time of a stage is the difference between a pipeline that ends with it and one that ends before
it. Times are processor times of all threads, so that other work on the machine affects them less;
the inverse of their sum is the rate of one core.
"""

import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from fcis_tf.benchmark.report import describe_machine
from fcis_tf.benchmark.timing import Seconds, quartiles, take_turns
from fcis_tf.config import Config
from fcis_tf.data import augment
from fcis_tf.data.decode import decode_image
from fcis_tf.data.order import draws
from fcis_tf.data.parse import parse
from fcis_tf.data.pipeline import RESIZE, mask_side, training_dataset
from fcis_tf.data.records import load_labels, record_files
from fcis_tf.files import write_json
from fcis_tf.labels import Labels
from fcis_tf.progress import Progress

# In the order of the pipeline; "masks" includes boxes, labels and the rest of a record.
STAGES = ("read", "header, shuffle", "image", "masks", "resize", "means, pad, batch", "augment")
DECODING = ("image", "masks")
WHOLE = "whole"
# Without the last stage: an image is only resized and batched.
PLAIN = {"flip": False, "turn": False, "crop": None, "scale_jitter": None, "color_jitter": 0.0}


def benchmark_data(
    config: Config, records: Path, *, images: int = 128, rounds: int = 7, out: Path | None = None
) -> dict[str, Any]:
    """Time the stages of training's input pipeline, print a table and write JSON.

    Args:
        config: of the augmentation and the batch size.
        records: folder of records.
        images: number drawn from each pipeline in a round.
        rounds: timed rounds.
        out: JSON file to write, or None.

    Raises:
        FcisError: no records, or none with an instance.

    Returns:
        The content of the JSON file: machine, setting, seconds per image by stage, share of
        decoding, and images per second of one core.
    """
    labels = Labels.load(config.data.labels) if config.data.labels else load_labels(records)
    with Progress("data", unit="rounds") as progress:
        seconds = measure_data(
            config, records, labels, images=images, rounds=rounds, progress=progress
        )
    whole = seconds[WHOLE]
    shares = {name: quartiles(seconds[name] / whole)._asdict() for name in STAGES}
    decoding = quartiles(sum(seconds[name] for name in DECODING) / whole)
    content: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "setting": {
            "records": str(records),
            "batch": config.train.batch_size,
            "rounds": f"{rounds} of {images} images, every pipeline in turn",
        },
        "seconds": {name: quartiles(value)._asdict() for name, value in seconds.items()},
        "shares": shares,
        "decoding": decoding._asdict(),
        "images_per_second": quartiles(1.0 / whole)._asdict(),
    }
    console = Console(width=None if sys.stdout.isatty() else 100)
    for key, value in (content["machine"] | content["setting"]).items():
        console.print(f"{key:12} {value}", highlight=False, soft_wrap=True)
    console.print(_table(content))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, content)
    return content


def measure_data(
    config: Config,
    records: Path,
    labels: Labels,
    *,
    images: int,
    rounds: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Seconds]:
    """Processor seconds of an image by stage, and of the `WHOLE` pipeline."""
    work = {
        name: _pull(dataset, images if alone else -(-images // config.train.batch_size))
        for name, (dataset, alone) in pipelines(config, records, labels).items()
    }
    taken = take_turns(work, rounds=rounds, progress=progress, clock=time.process_time)
    until = np.array([taken[name] / images for name in STAGES])  # (stages, rounds)
    alone = np.diff(until, axis=0, prepend=0.0)
    return dict(zip(STAGES, alone, strict=True)) | {WHOLE: until[-1]}


def pipelines(
    config: Config, records: Path, labels: Labels
) -> dict[str, tuple[tf.data.Dataset, bool]]:
    """Endless pipelines that end with each stage, and whether their elements are single images."""
    data = config.data.model_copy(update={"cache": False})
    files, batch = record_files(records), config.train.batch_size
    order = draws(files, data, step_size=batch, seed=0)

    def image(_: Any, record: Any) -> Any:
        key = "image/encoded"
        spec = {key: tf.io.FixedLenFeature([], tf.string)}
        return decode_image(tf.io.parse_single_example(record, spec)[key])

    def masks(_: Any, record: Any) -> Any:
        return parse(record, category_ids=labels.ids, mask_size=mask_side(data))

    def resized(_: Any, record: Any) -> Any:
        one = masks(_, record)
        factor = data.factors[0] if data.factors else data.short_sides[0]
        if not data.factors:
            size = tf.shape(one["image"])[:2]
            factor = augment.resize_factor(size, data.short_sides[0], data.long_side)
        return RESIZE[data.resize](one, tf.cast(factor, tf.float64))

    def batches(**changes: Any) -> tf.data.Dataset:
        changed = data.model_copy(update=changes)
        return training_dataset(records, labels, changed, batch_size=batch, seed=0)

    first = {} if data.factors else {"short_sides": data.short_sides[:1]}
    made = (
        tf.data.TFRecordDataset([str(file) for file in files]).repeat(),
        order,
        order.map(image, tf.data.AUTOTUNE),
        order.map(masks, tf.data.AUTOTUNE),
        order.map(resized, tf.data.AUTOTUNE),
        batches(**PLAIN, **first),
        batches(),
    )
    alone = (True,) * 5 + (False,) * 2
    return dict(zip(STAGES, zip(made, alone, strict=True), strict=True))


def _pull(dataset: tf.data.Dataset, count: int) -> Callable[[], None]:
    options = tf.data.Options()
    options.autotune.enabled = False  # it would grow buffers while other pipelines are timed
    iterator = iter(dataset.with_options(options))

    def pull() -> None:
        for _ in range(count):
            next(iterator)

    return pull


def _table(content: dict[str, Any]) -> Table:
    table = Table(title="input pipeline, processor time of an image", title_justify="left")
    table.add_column()
    for column in ("median", "lower quartile", "upper quartile", "share"):
        table.add_column(column, justify="right")
    for name, values in content["seconds"].items():
        share = content["shares"].get(name, {"median": 1.0})["median"]
        times = (f"{1e3 * value:.2f} ms" for value in values.values())
        table.add_row(name, *times, f"{100 * share:.0f} %")
    table.add_section()
    decoding = [f"{100 * value:.0f} %" for value in content["decoding"].values()]
    table.add_row("decoding / whole", *decoding, "")
    rates = [f"{value:.1f}" for value in content["images_per_second"].values()]
    table.add_row("images/s of one core", *rates, "")
    return table
