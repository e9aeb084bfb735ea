"""Inference for people: arrays, files and whole data sets in, instances at original size out."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcis_tf.config import Config, load_config
from fcis_tf.data.images import to_rgb
from fcis_tf.data.records import read_records
from fcis_tf.errors import FcisError
from fcis_tf.evaluate import coco
from fcis_tf.files import write_whole
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.fold import fold
from fcis_tf.model.weights import load_weights
from fcis_tf.predictor import Instances, Predictor
from fcis_tf.predictor import resizing as resizing


def predict(model: FCIS, images: Iterable[np.ndarray]) -> list[Instances]:
    """Instances of each uint8 (H, W, 3) RGB image; the images may differ in size."""
    predictor = Predictor(fold(model))
    return [predictor.image(image) for image in images]


def load_run(
    run: Path, overrides: Sequence[str] = (), weights: Path | None = None, *, ops: str = "auto"
) -> tuple[Config, Labels, FCIS]:
    """The configuration, classes and network of a run directory; `ops` as in `FCIS`.

    Raises:
        FcisError: the directory is not one, or its parts do not fit each other.
    """
    if not (run / "config.yaml").exists():
        raise FcisError(f"{run}: not a run directory (no config.yaml); `fcis train` makes one")
    config = load_config(run / "config.yaml", overrides)
    labels = Labels.load(run / "labels.json")
    if config.model.classes != len(labels):
        raise FcisError(
            f"{run}: model.classes is {config.model.classes}, labels.json has {len(labels)}"
        )
    model = FCIS.from_config(config, precision=config.predict.precision, ops=ops)
    load_weights(model, weights or run)
    return config, labels, model


def load_predictor(
    run: Path, overrides: Sequence[str] = (), weights: Path | None = None
) -> tuple[Predictor, Labels]:
    """What predicts with a run, and with the others that its ``predict.ensemble`` names.

    A member is a run directory, or a ``.weights.h5`` file for the configuration of `run`.

    Raises:
        FcisError: as `load_run`, or a member has other classes.
    """
    config, labels, model = load_run(run, overrides, weights)
    members = []
    for name in config.predict.ensemble:
        if Path(name).is_dir():
            _, others, member = load_run(Path(name))
            if others != labels:
                raise FcisError(f"predict.ensemble: {name} has other classes than {run}")
        else:
            member = FCIS.from_config(config, precision=config.predict.precision)
            load_weights(member, name)
        members.append(fold(member))
    return Predictor(fold(model), members), labels


def evaluate_model(
    predictor: Predictor,
    records: str | Path,
    labels: Labels,
    *,
    limit: int | None = None,
    progress: Any = None,
) -> tuple[coco.Metrics, list[dict]]:
    """COCO metrics of a model on a folder of records, and the results they come from.

    Args:
        predictor: the model.
        records: folder of records.
        labels: the classes of the model.
        limit: only so many images, the first ones.
        progress: called with (done, total) images.
    """
    truth = coco.ground_truth(first(read_records(records), limit), labels)
    ids = [image["id"] for image in truth["images"]]
    results: list[dict] = []
    everything = predictor.records(records, labels)
    for done, (number, found) in enumerate(zip(ids, everything, strict=False), start=1):
        results += coco.results(
            number, found.boxes, found.labels, found.scores, found.masks, labels
        )
        if progress:
            progress(done, len(ids))
    return coco.evaluate(truth, results, labels), results


def evaluate_run(
    run: Path,
    *,
    records: str | None = None,
    weights: Path | None = None,
    out: Path | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: Any = None,
) -> coco.Metrics:
    """Evaluate a run on its validation records, or on others; writes results and metrics.

    Writes ``results.json`` (COCO results) and ``metrics.json`` into `out`, by default
    ``RUN/evaluation``.
    """
    predictor, labels = load_predictor(run, overrides, weights)
    records = records or predictor.config.data.validation
    if not records:
        raise FcisError("data.validation: no validation records configured; name --records FOLDER")
    metrics, results = evaluate_model(predictor, records, labels, limit=limit, progress=progress)
    out = out or run / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    coco.save_results(results, out / "results.json")
    write_json(out / "metrics.json", metrics.to_dict())
    return metrics


def read_image(source: Path | io.BytesIO, name: str = "") -> np.ndarray:
    """An image file, or its bytes, as uint8 (H, W, 3) RGB in its stored orientation.

    Raises:
        FcisError: not an image, or a damaged one.
    """
    try:
        with Image.open(source) as image:
            return np.asarray(to_rgb(image))
    except FileNotFoundError:
        raise FcisError(f"{source}: no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise FcisError(f"{name or source}: not a readable image ({fault})") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON; the file appears only when it is whole."""
    write_whole(path, json.dumps(content, indent=1) + "\n")


def first(items: Iterator[Any], limit: int | None) -> Iterator[Any]:
    """The first `limit` items, or all."""
    for number, item in enumerate(items):
        if limit is not None and number >= limit:
            return
        yield item
