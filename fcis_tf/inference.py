"""Inference for people: arrays, files and whole data sets in, instances at original size out."""

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fcis_tf.config import Config, load_config
from fcis_tf.data.images import to_rgb
from fcis_tf.data.records import read_image_files, read_records
from fcis_tf.errors import FcisError
from fcis_tf.evaluation import coco
from fcis_tf.evaluation.measure import measure
from fcis_tf.evaluation.pictures import Fetch
from fcis_tf.evaluation.report import write_report
from fcis_tf.files import write_json
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.fold import fold
from fcis_tf.prediction.predictor import Instances, Predictor
from fcis_tf.prediction.predictor import resizing as resizing
from fcis_tf.weights.weight_files import load_weights


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
    truth, results, _ = detect_records(predictor, records, labels, limit=limit, progress=progress)
    return coco.evaluate(truth, results, labels), results


def detect_records(
    predictor: Predictor,
    records: str | Path,
    labels: Labels,
    *,
    limit: int | None = None,
    progress: Any = None,
) -> tuple[dict[str, Any], list[dict], dict[str, float]]:
    """Ground truth of a folder of records, a model's COCO results on it, and how long they took.

    ``seconds_per_image`` is from the record to the masks at original size, without the first batch,
    which traces the graph; there is none if that was the only one. Arguments as `evaluate_model`.
    """
    truth = coco.ground_truth(first(read_records(records), limit), labels)
    ids = [image["id"] for image in truth["images"]]
    results: list[dict] = []
    everything = predictor.records(records, labels)
    untimed = predictor.config.predict.batch_size  # images of the first batch
    seconds = 0.0
    start = time.perf_counter()
    for done, (number, found) in enumerate(zip(ids, everything, strict=False), start=1):
        if done > untimed:
            seconds += time.perf_counter() - start
        results += coco.results(
            number, found.boxes, found.labels, found.scores, found.masks, labels
        )
        if progress:
            progress(done, len(ids))
        start = time.perf_counter()
    timed = len(ids) - untimed
    return truth, results, {"seconds_per_image": seconds / timed} if timed > 0 else {}


def evaluate_run(
    run: Path,
    *,
    records: str | None = None,
    weights: Path | None = None,
    out: Path | None = None,
    report: Path | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: Any = None,
) -> coco.Metrics:
    """Evaluate a run on its validation records, or on others; writes results and metrics.

    Writes ``results.json`` (COCO results) and ``metrics.json`` into `out`, by default
    ``RUN/evaluation``, and the page ``index.html`` into `report`.
    """
    predictor, labels = load_predictor(run, overrides, weights)
    records = records or predictor.config.data.validation
    if not records:
        raise FcisError("data.validation: no validation records configured; name --records FOLDER")
    truth, results, speed = detect_records(
        predictor, records, labels, limit=limit, progress=progress
    )
    out = out or run / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    coco.save_results(results, out / "results.json")
    evaluation = measure(truth, results, labels, speed=speed)
    write_json(out / "metrics.json", evaluation.metrics.to_dict())
    if report:
        write_report(evaluation, report, title=str(run), fetch=record_images(records))
    return evaluation.metrics


def record_images(records: str | Path) -> Fetch:
    """Reads the images at some places of a folder of records."""

    def fetch(places: Sequence[int]) -> dict[int, np.ndarray]:
        files = read_image_files(records, set(places))
        return {place: read_image(io.BytesIO(file)) for place, file in files.items()}

    return fetch


def read_image(source: Path | io.BytesIO, name: str = "", *, upright: bool = False) -> np.ndarray:
    """An image file, or its bytes, as uint8 (H, W, 3) RGB.

    Args:
        source: the file.
        name: what an error message calls it; by default `source`.
        upright: turn and mirror it as its EXIF orientation says; by default it is as it is stored.

    Raises:
        FcisError: not an image, or a damaged one.
    """
    try:
        with Image.open(source) as image:
            return np.asarray(to_rgb(ImageOps.exif_transpose(image) if upright else image))
    except FileNotFoundError:
        raise FcisError(f"{source}: no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise FcisError(f"{name or source}: not a readable image ({fault})") from None


def first(items: Iterator[Any], limit: int | None) -> Iterator[Any]:
    """The first `limit` items, or all."""
    for number, item in enumerate(items):
        if limit is not None and number >= limit:
            return
        yield item
