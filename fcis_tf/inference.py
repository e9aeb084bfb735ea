"""Inference for people: arrays, files and whole data sets in, instances at original size out."""

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from fcis_tf.config import Config, load_config
from fcis_tf.data.images import to_rgb
from fcis_tf.data.pipeline import evaluation_dataset, network_input
from fcis_tf.data.records import read_image_files, read_records
from fcis_tf.errors import FcisError
from fcis_tf.evaluate import coco
from fcis_tf.evaluate.measure import measure
from fcis_tf.evaluate.pictures import Fetch
from fcis_tf.evaluate.report import write_report
from fcis_tf.files import write_json
from fcis_tf.geometry.paste import paste_masks
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.fold import fold
from fcis_tf.model.weights import load_weights


class Instances(NamedTuple):
    """What was found in one image, best first, in pixels of the original image."""

    boxes: np.ndarray  # (n, 4) float32 (y0, x0, y1, x1), half-open, tight around the masks
    labels: np.ndarray  # (n,) int32 in 1..C
    scores: np.ndarray  # (n,) float32
    masks: np.ndarray  # (n, H, W) bool

    def above(self, score: float) -> "Instances":
        """Those with at least this score."""
        keep = self.scores >= score
        return Instances(*(part[keep] for part in self))


class Predictor:
    """A model's whole inference as one graph for images of any size.

    Args:
        model: made by `FCIS.from_config`, with weights.
    """

    def __init__(self, model: FCIS) -> None:
        self.model, self.config = model, model.config
        self.detect = tf.function(
            model.detect,
            input_signature=[
                tf.TensorSpec([None, None, None, 3], tf.float32),
                tf.TensorSpec([None, 2], tf.float32),
                tf.TensorSpec([None], tf.float32),
                tf.TensorSpec([None, 2], tf.int32),
            ],
        )

    def image(self, image: np.ndarray) -> Instances:
        """Instances of one uint8 (H, W, 3) RGB image."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise FcisError(
                f"image: expected uint8 (H, W, 3) RGB, found {image.dtype} {image.shape}"
            )
        pixels, scale = network_input(image, **resizing(self.config))
        size = tf.cast(tf.shape(pixels)[:2], tf.float32)
        found = self.detect(pixels[None], size[None], scale[None], [image.shape[:2]])
        return next(self._instances(found, np.array([image.shape[:2]])))

    def batch(self, batch: dict[str, Any]) -> Iterator[Instances]:
        """Instances of each image of a pipeline batch; see structures.py."""
        found = self.detect(
            batch["image"], batch["image_size"], batch["scale"], batch["original_size"]
        )
        return self._instances(found, np.asarray(batch["original_size"]))

    def _instances(self, found: Any, sizes: np.ndarray) -> Iterator[Instances]:
        boxes, scores, labels, masks, valid = (np.asarray(part) for part in found)
        for i, (height, width) in enumerate(sizes):
            keep = valid[i]
            pasted = paste_masks(
                masks[i][keep],
                boxes[i][keep],
                int(height),
                int(width),
                self.config.predict.mask_threshold,
            )
            yield Instances(boxes[i][keep], labels[i][keep], scores[i][keep], pasted)


def predict(model: FCIS, images: Iterable[np.ndarray]) -> list[Instances]:
    """Instances of each uint8 (H, W, 3) RGB image; the images may differ in size."""
    predictor = Predictor(fold(model))
    return [predictor.image(image) for image in images]


def resizing(config: Config) -> dict[str, Any]:
    """How prediction and validation resize an image, as keyword values of the pipeline."""
    data = config.data
    return {
        "short_side": data.validation_short_side,
        "long_side": data.validation_long_side,
        "factor": data.validation_factor,
        "resize": data.resize,
    }


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

    ``seconds_per_image`` is from the batch to the masks at original size, without the first batch,
    which traces the graph; there is none if that was the only one. Arguments as `evaluate_model`.
    """
    config = predictor.config
    dataset = evaluation_dataset(
        records,
        labels=labels,
        mask_size=config.data.mask_size,
        max_instances=config.data.max_instances,
        batch_size=config.predict.batch_size,
        **resizing(config),
    )
    truth = coco.ground_truth(first(read_records(records), limit), labels)
    total = len(truth["images"])
    ids = iter([image["id"] for image in truth["images"]])
    results: list[dict] = []
    done = timed = 0
    seconds = 0.0
    for number, batch in enumerate(dataset):
        start, before = time.perf_counter(), done
        for found in predictor.batch(batch):
            if done == total:
                break
            results += coco.results(
                next(ids), found.boxes, found.labels, found.scores, found.masks, labels
            )
            done += 1
            if progress:
                progress(done, total)
        if number:
            seconds, timed = seconds + time.perf_counter() - start, timed + done - before
        if done == total:
            break
    return truth, results, {"seconds_per_image": seconds / timed} if timed else {}


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
    config, labels, model = load_run(run, overrides, weights)
    records = records or config.data.validation
    if not records:
        raise FcisError("data.validation: no validation records configured; name --records FOLDER")
    truth, results, speed = detect_records(
        Predictor(fold(model)), records, labels, limit=limit, progress=progress
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


def first(items: Iterator[Any], limit: int | None) -> Iterator[Any]:
    """The first `limit` items, or all."""
    for number, item in enumerate(items):
        if limit is not None and number >= limit:
            return
        yield item
