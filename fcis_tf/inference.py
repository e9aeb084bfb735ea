"""Inference for people: arrays, files and whole data sets in, instances at original size out."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from fcis_tf.config import Config, load_config
from fcis_tf.data.images import decode_image, to_rgb
from fcis_tf.data.pipeline import evaluation_dataset, network_input
from fcis_tf.data.records import read_records
from fcis_tf.errors import FcisError
from fcis_tf.evaluate import coco
from fcis_tf.files import write_whole
from fcis_tf.geometry.paste import paste_masks
from fcis_tf.labels import Labels
from fcis_tf.model.ensemble import Ensemble
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.fold import fold
from fcis_tf.model.weights import load_weights
from fcis_tf.multiscale import MultiScale


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
    """A model's whole inference for images of any size, as its configuration says.

    Args:
        model: made by `FCIS.from_config`, with weights.
        others: networks of the same classes that answer too; the configuration is that of `model`.
    """

    def __init__(self, model: FCIS, others: Sequence[FCIS] = ()) -> None:
        self.model, self.config = model, model.config
        ensemble, settings = Ensemble([model, *others]), model.config.predict
        self.multi_scale = (
            MultiScale(ensemble, scales=settings.scales, side=settings.scale_side)
            if settings.scales
            else None
        )
        self.detect = tf.function(
            ensemble.detect,
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
        if self.multi_scale:
            found = self.multi_scale.detect(image, **resizing(self.config))
        else:
            pixels, scale = network_input(image, **resizing(self.config))
            size = tf.cast(tf.shape(pixels)[:2], tf.float32)
            found = self.detect(pixels[None], size[None], scale[None], [image.shape[:2]])
        return next(self._instances(found, np.array([image.shape[:2]])))

    def batch(self, batch: dict[str, Any]) -> Iterator[Instances]:
        """Instances of each image of a pipeline batch (structures.py), at the scale it has."""
        found = self.detect(
            batch["image"], batch["image_size"], batch["scale"], batch["original_size"]
        )
        return self._instances(found, np.asarray(batch["original_size"]))

    def records(self, folder: str | Path, labels: Labels) -> Iterator[Instances]:
        """Instances of every image of a folder of records, in order."""
        config = self.config
        if self.multi_scale:
            for record in read_records(folder):
                yield self.image(decode_image(record.encoded).numpy())
            return
        for batch in evaluation_dataset(
            folder,
            labels=labels,
            mask_size=config.data.mask_size,
            max_instances=config.data.max_instances,
            batch_size=config.predict.batch_size,
            **resizing(config),
        ):
            yield from self.batch(batch)

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
