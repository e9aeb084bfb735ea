"""The sanity check of a new data set: a network must be able to learn a few images by heart."""

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.data.records import Record, decode, load_labels, read_serialized
from fcis_tf.errors import FcisError
from fcis_tf.evaluation.coco import MOST_DETECTIONS
from fcis_tf.files import partial_name, replace
from fcis_tf.labels import Labels
from fcis_tf.training.logger import read_lines
from fcis_tf.training.loop import train

FOLDER = "overfit"  # in the run directory
AP50 = 0.95  # of the images it was trained on
PASSES = 240  # over the images, at most
EVALUATIONS = 12
SEARCHED = 1000  # records among which the images are drawn


class Overfit(NamedTuple):
    """What came of it."""

    ap50: float  # best mask AP50 of an evaluation
    steps: int  # until then
    causes: list[str]  # what to check, likeliest first; empty if `AP50` was reached


def overfit(config: Config, run: Path, count: int) -> Overfit:
    """Train on a few images of ``data.train`` until they are found again, and evaluate on the same.

    The images are not changed but for the configured size and crops. Everything is written to
    ``RUN/overfit``, anew each time; the run itself stays as it is.

    Args:
        config: of the run.
        run: its directory.
        count: number of images.

    Raises:
        FcisError: fewer images with instances than that, or as `train`.
    """
    if not config.data.train:
        raise FcisError("data.train: no training records configured; set it to a records folder")
    source = config.data.train
    labels = Labels.load(config.data.labels) if config.data.labels else load_labels(source)
    folder = run / FOLDER
    if (folder / "records").exists():
        shutil.rmtree(folder)
    most = min(config.data.max_instances, MOST_DETECTIONS)
    chosen = _choose(source, count, config.train.seed, most)
    _write(folder / "records", chosen, labels)
    train(_settings(config, folder / "records", count), folder, enough=AP50)
    evaluations = [row for row in read_lines(folder) if row["kind"] == "evaluation"]
    best = max(evaluations, key=lambda row: row["mask"]["AP50"])
    found = best["mask"]["AP50"]
    causes = [] if found >= AP50 else _causes(config, chosen, folder)
    return Overfit(found, best["step"], causes)


def _choose(source: str, count: int, seed: int, most: int) -> list[bytes]:
    """Records drawn from those with an instance, and with no more than can be found again."""
    usable = []
    for number, (_, serialized) in enumerate(islice(read_serialized(source), SEARCHED)):
        feature = tf.train.Example.FromString(serialized).features.feature
        crowds = feature["image/object/is_crowd"].int64_list.value
        instances = len(feature["image/object/class/label"].int64_list.value) - sum(crowds)
        if 0 < instances <= most:
            usable.append(number)
    if len(usable) < count:
        raise FcisError(
            f"{source}: expected {count} images with 1 to {most} instances, found {len(usable)}; "
            "name a smaller --overfit"
        )
    drawn = set(np.random.default_rng(seed).choice(usable, count, replace=False).tolist())
    records = enumerate(islice(read_serialized(source), SEARCHED))
    return [serialized for number, (_, serialized) in records if number in drawn]


def _write(folder: Path, serialized: list[bytes], labels: Labels) -> None:
    folder.mkdir(parents=True)
    file = folder / "data-00000-of-00001.tfrecord"
    partial = partial_name(file)
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for one in serialized:
            writer.write(one)
    replace(partial, file)
    labels.save(folder / "labels.json")


def _settings(config: Config, records: Path, count: int) -> Config:
    """The configuration of the run, for a few images and without augmentation."""
    data, train = config.data, config.train
    steps = max(PASSES * count // (train.batch_size * train.accumulate), EVALUATIONS)
    sizes = {
        "short_sides": (data.validation_short_side,),
        "long_side": data.validation_long_side,
        "factors": None if data.validation_factor is None else (data.validation_factor,),
    }
    plain = {"flip": False, "turn": False, "scale_jitter": None, "color_jitter": 0.0}
    where = {"train": str(records), "validation": str(records), "cache": True}
    # A cosine hardly lowers the rate in the beginning, where easy images are learnt, and lowers it
    # for those that need all steps.
    schedule = {
        "steps": steps,
        "schedule": "cosine",
        "warmup_steps": min(train.warmup_steps, steps // EVALUATIONS),
        "ema": 0.95,
        "weight_decay": 0.0,
        "evaluate_every": max(steps // EVALUATIONS, 1),
        "evaluate_images": None,
        "checkpoint_every": steps,
        "keep_checkpoints": 1,
        "patience": None,
    }
    return config.model_copy(
        update={
            "data": data.model_copy(update=sizes | plain | where),
            "train": train.model_copy(update=schedule),
        }
    )


def _causes(config: Config, chosen: list[bytes], folder: Path) -> list[str]:
    """What to check, with the numbers of the images themselves."""
    records = [decode(one) for one in chosen]
    sides = np.array(
        [
            np.subtract(instance.box[2:], instance.box[:2]) * _factor(config, record)
            for record in records
            for instance in record.instances
            if not instance.crowd
        ]
    )
    sides = np.sqrt(sides.prod(1))
    anchors = config.model.anchor_sizes
    low, middle, high = np.quantile(sides, [0.1, 0.5, 0.9])
    outside = np.mean((sides < min(anchors) / 2) | (sides > max(anchors) * 2))
    metrics = json.loads((folder / "metrics.json").read_text())
    weak = [row["name"] for row in metrics["per_class"] if 0 <= row["mask_AP50"] < AP50]
    totals = [row["loss/total"] for row in read_lines(folder) if row["kind"] == "train"]
    return [
        "labels: do masks, boxes and names fit the images? "
        f"fcis inspect {folder}/records --out DIR; classes below {AP50}: {', '.join(weak[:8])}",
        f"sizes: in network pixels instances measure {low:.0f} to {high:.0f}, half of them under "
        f"{middle:.0f}; model.anchor_sizes are {list(anchors)}, {outside:.0%} of the instances are "
        "not within half the smallest and twice the largest; instances under 8 pixels are hardly "
        "found: enlarge with data.validation_factor or data.validation_short_side",
        f"training: the loss went from {totals[0]:.2f} to {totals[-1]:.2f}; if it still falls, "
        "it needs longer; if it jumps or stands, try another train.learning_rate (a third, thrice)",
        f"prediction: fcis predict --run {folder} IMAGES shows what is found; many overlapping "
        "instances may need a higher predict.nms_threshold, many instances more "
        "proposals.predict_count",
    ]


def _factor(config: Config, record: Record) -> float:
    """Network pixels per pixel of an image."""
    data = config.data
    if data.validation_factor is not None:
        return data.validation_factor
    sides = sorted((record.height, record.width))
    return min(data.validation_short_side / sides[0], data.validation_long_side / sides[1])
