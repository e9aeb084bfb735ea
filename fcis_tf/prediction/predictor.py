"""Prediction in images of any size: whole, over several scales, in tiles; one or a stream."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.data.augment import resize_factor
from fcis_tf.data.decode import decode_image
from fcis_tf.data.pipeline import evaluation_dataset, network_input
from fcis_tf.data.records import read_records
from fcis_tf.errors import FcisError
from fcis_tf.geometry.paste import paste_masks
from fcis_tf.instances import Segment, cut_out
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.prediction.detector import Detector
from fcis_tf.prediction.multiscale import MultiScale
from fcis_tf.prediction.tiles import detect_tiled


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
        self.detector, settings = Detector([model, *others]), model.config.predict
        self.multi_scale = (
            MultiScale(self.detector, scales=settings.scales, side=settings.scale_side)
            if settings.scales
            else None
        )
        self.detect = tf.function(
            self.detector.detect,
            input_signature=[
                tf.TensorSpec([None, None, None, 3], tf.float32),
                tf.TensorSpec([None, 2], tf.float32),
                tf.TensorSpec([None], tf.float32),
                tf.TensorSpec([None, 2], tf.int32),
            ],
        )

    def image(self, image: np.ndarray) -> Instances:
        """Instances of one uint8 (H, W, 3) RGB image."""
        check_image(image)
        if not self._is_tiled(image):
            return next(self._whole([image], **resizing(self.config)))
        segments = self._tiled(image)
        whole = (0, 0, *image.shape[:2])
        return Instances(
            np.array([one.box for one in segments], np.float32).reshape(-1, 4),
            np.array([one.label for one in segments], np.int32),
            np.array([one.score for one in segments], np.float32),
            np.array([one.inside(whole) for one in segments], bool).reshape(-1, *image.shape[:2]),
        )

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[list[Segment]]:
        """Segments of each uint8 (H, W, 3) RGB image, in order.

        Up to ``predict.batch_size`` successive images of one size go through the network together:
        in a padded batch an image would give other results than by itself.
        """
        alike = itertools.groupby(images, lambda image: (self._is_tiled(image), image.shape))
        for (tiled, _), group in alike:
            if tiled:
                yield from map(self._tiled, group)
            else:
                for found in self._whole(group, **resizing(self.config)):
                    yield cut_out(*found)

    def _is_tiled(self, image: np.ndarray) -> bool:
        check_image(image)
        tile = self.config.predict.tile
        return tile is not None and max(image.shape[:2]) > tile

    def _tiled(self, image: np.ndarray) -> list[Segment]:
        """Every window at the scale that a full one has."""
        side, options = self.config.predict.tile, resizing(self.config)
        if options["factor"] is None:
            factor = resize_factor([side, side], options["short_side"], options["long_side"])
            options["factor"] = float(factor)

        def find(windows: Iterable[np.ndarray]) -> Iterator[list[Segment]]:
            return (cut_out(*found) for found in self._whole(windows, **options))

        overlap = self.config.predict.tile_overlap
        return detect_tiled(find, image, side=side, overlap=overlap)

    def _whole(self, images: Iterable[np.ndarray], **options: Any) -> Iterator[Instances]:
        """Instances of images of one size, resized as `network_input` does with `options`."""
        for group in batched(images, self.config.predict.batch_size):
            originals = np.array([image.shape[:2] for image in group], np.int32)
            if self.multi_scale:
                for image, size in zip(group, originals, strict=True):
                    found = self.multi_scale.detect(image, **options)
                    yield from self._instances(found, size[None])
                continue
            seen, scales = zip(*(network_input(image, **options) for image in group), strict=True)
            pixels = tf.stack(seen)
            sizes = np.full([len(group), 2], pixels.shape[1:3], np.float32)
            yield from self._instances(
                self.detect(pixels, sizes, tf.stack(scales), originals), originals
            )

    def batch(self, batch: dict[str, Any]) -> Iterator[Instances]:
        """Instances of each image of a pipeline batch (structures.py), at the scale it has."""
        found = self.detect(
            batch["image"], batch["image_size"], batch["scale"], batch["original_size"]
        )
        return self._instances(found, np.asarray(batch["original_size"]))

    def records(self, folder: str | Path, labels: Labels) -> Iterator[Instances]:
        """Instances of every image of a folder of records, in order."""
        config = self.config
        if self.multi_scale or config.predict.tile:
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


def resizing(config: Config) -> dict[str, Any]:
    """How prediction and validation resize an image, as keyword values of the pipeline."""
    data = config.data
    return {
        "short_side": data.validation_short_side,
        "long_side": data.validation_long_side,
        "factor": data.validation_factor,
        "resize": data.resize,
    }


def check_image(image: np.ndarray) -> None:
    """Raises FcisError unless it is uint8 (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise FcisError(f"image: expected uint8 (H, W, 3) RGB, found {image.dtype} {image.shape}")


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items; the last may be shorter."""
    items = iter(items)
    while group := list(itertools.islice(items, size)):
        yield group
