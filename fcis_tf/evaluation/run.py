"""Evaluation of a run, or of a network in memory, on a folder of records."""

import io
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcis_tf.data.images import read_image
from fcis_tf.data.records import read_image_files, read_records
from fcis_tf.errors import FcisError
from fcis_tf.evaluation import coco
from fcis_tf.evaluation.measure import measure
from fcis_tf.evaluation.metrics import Metrics
from fcis_tf.evaluation.pictures import Fetch
from fcis_tf.evaluation.report import write_report
from fcis_tf.files import write_json
from fcis_tf.prediction.load import load
from fcis_tf.prediction.predictor import Predictor


def evaluate_model(
    predictor: Predictor,
    records: str | Path,
    *,
    limit: int | None = None,
    progress: Any = None,
) -> tuple[Metrics, list[dict]]:
    """COCO metrics of a model on a folder of records, and the results they come from.

    Args:
        predictor: the model.
        records: folder of records.
        limit: only so many images, the first ones.
        progress: called with (done, total) images.
    """
    truth, results, _ = detect_records(predictor, records, limit=limit, progress=progress)
    return coco.evaluate(truth, results, predictor.labels), results


def detect_records(
    predictor: Predictor,
    records: str | Path,
    *,
    limit: int | None = None,
    progress: Any = None,
) -> tuple[dict[str, Any], list[dict], dict[str, float]]:
    """Ground truth of a folder of records, a model's COCO results on it, and how long they took.

    ``seconds_per_image`` is from the record to the masks at original size, without the first batch,
    which traces the graph; there is none if that was the only one. Arguments as `evaluate_model`.
    """
    truth = coco.ground_truth(itertools.islice(read_records(records), limit), predictor.labels)
    ids = [image["id"] for image in truth["images"]]
    results: list[dict] = []
    everything = predictor.records(records)
    untimed = predictor.config.predict.batch_size  # images of the first batch
    seconds = 0.0
    start = time.perf_counter()
    for done, (number, found) in enumerate(zip(ids, everything, strict=False), start=1):
        if done > untimed:
            seconds += time.perf_counter() - start
        results += found.to_coco(number)
        if progress:
            progress(done, len(ids))
        start = time.perf_counter()
    timed = len(ids) - untimed
    return truth, results, {"seconds_per_image": seconds / timed} if timed > 0 else {}


def evaluate(
    run: str | Path,
    *,
    records: str | Path | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    report: str | Path | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: Any = None,
) -> Metrics:
    """Evaluate a run on its validation records, or on others; writes results and metrics.

    Args:
        run: run directory.
        records: folder of records; by default ``data.validation`` of the run.
        weights: other weights than the best ones of the run.
        out: folder for ``results.json`` (COCO results) and ``metrics.json``; by default
            ``RUN/evaluation``.
        report: folder for a page with tables, curves, errors and pictures, if one is wanted.
        limit: only so many images, the first ones.
        overrides: of the configuration, as "section.key=value".
        progress: called with (done, total) images.

    Returns:
        The metrics; ``metrics.mask["AP"]`` is COCO's mask AP.

    Raises:
        FcisError: not a run, no records, or records of other classes.
    """
    predictor = load(run, overrides, weights)
    records = records or predictor.config.data.validation
    if not records:
        raise FcisError("data.validation: no validation records configured; name --records FOLDER")
    truth, results, speed = detect_records(predictor, records, limit=limit, progress=progress)
    out = Path(out) if out else Path(run) / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", results, indent=None)
    evaluation = measure(truth, results, predictor.labels, speed=speed)
    write_json(out / "metrics.json", evaluation.metrics.to_dict())
    if report:
        write_report(evaluation, Path(report), title=str(run), fetch=record_images(records))
    return evaluation.metrics


def record_images(records: str | Path) -> Fetch:
    """Reads the images at some places of a folder of records."""

    def fetch(places: Sequence[int]) -> dict[int, np.ndarray]:
        files = read_image_files(records, set(places))
        return {place: read_image(io.BytesIO(file)) for place, file in files.items()}

    return fetch
