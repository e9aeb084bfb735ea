"""Prediction in images of any size: whole, over several scales, in tiles; one or a stream."""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from fcis_tf.config import DataConfig
from fcis_tf.data.decode import decode_image
from fcis_tf.data.images import read_image
from fcis_tf.data.pipeline import evaluation_dataset, network_input, validation_factor
from fcis_tf.data.records import read_records
from fcis_tf.errors import FcisError
from fcis_tf.geometry.paste import paste_cutouts
from fcis_tf.instances import Instances
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.prediction.detector import Detector
from fcis_tf.prediction.multiscale import MultiScale
from fcis_tf.prediction.tiles import detect_tiled
from fcis_tf.structures import Detections


class Predictor:
    """A model's whole inference for images of any size, as its configuration says.

    Args:
        model: made by `FCIS.from_config`, with weights.
        others: networks of the same classes that are averaged with it; the configuration is that
            of `model`.
        labels: names and category ids of the classes; by default "class 1", "class 2" and so on.

    Raises:
        FcisError: `labels` has another number of classes than the network.
    """

    def __init__(
        self, model: FCIS, others: Sequence[FCIS] = (), *, labels: Labels | None = None
    ) -> None:
        self.model, self.config = model, model.config
        numbers = range(1, model.classes + 1)
        self.labels = labels or Labels(tuple(numbers), tuple(f"class {n}" for n in numbers))
        if len(self.labels) != model.classes:
            raise FcisError(
                f"labels: expected {model.classes} classes as the network has, "
                f"found {len(self.labels)}"
            )
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

    def predict_image(self, source: Any, *, upright: bool = True) -> Any:
        """Instances of an image, or of each of several.

        Args:
            source: a path, the bytes of an image file, or a uint8 (H, W, 3) RGB array; or a list
                or an iterator of these, of any sizes.
            upright: turn and mirror image files as their EXIF orientation says; arrays are taken
                as they are.

        Returns:
            `Instances`; of a list a list, of another iterable an iterator that reads no further
            ahead than ``predict.batch_size`` images.

        Raises:
            FcisError: no such file, not an image, or an array of another type or shape.
        """
        if isinstance(source, str | Path | bytes | np.ndarray):
            return next(self.stream([_pixels(source, upright)]))
        found = self.stream(_pixels(one, upright) for one in source)
        return list(found) if isinstance(source, list | tuple) else found

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[Instances]:
        """Instances of each uint8 (H, W, 3) RGB image, in order.

        Up to ``predict.batch_size`` successive images of one size go through the network together:
        in a padded batch an image would give other results than by itself.
        """
        alike = itertools.groupby(images, lambda image: (self._is_tiled(image), image.shape))
        for (tiled, _), group in alike:
            if tiled:
                yield from map(self._tiled, group)
            else:
                yield from self._whole(group, self.config.data)

    def _is_tiled(self, image: np.ndarray) -> bool:
        check_image(image)
        tile = self.config.predict.tile
        return tile is not None and max(image.shape[:2]) > tile

    def _tiled(self, image: np.ndarray) -> Instances:
        """Every window at the scale that a full one has."""
        side, data = self.config.predict.tile, self.config.data
        assert side is not None
        factor = float(validation_factor([side, side], data))
        data = data.model_copy(update={"validation_factor": factor})
        overlap = self.config.predict.tile_overlap
        find = partial(self._whole, data=data)
        return detect_tiled(find, image, side=side, overlap=overlap)

    def _whole(self, images: Iterable[np.ndarray], data: DataConfig) -> Iterator[Instances]:
        """Instances of images of one size, resized as `network_input` does with `data`."""
        for group in batched(images, self.config.predict.batch_size):
            originals = np.array([image.shape[:2] for image in group], np.int32)
            if self.multi_scale:
                for image, size in zip(group, originals, strict=True):
                    found = self.multi_scale.detect(image, data)
                    yield from self._instances(found, size[None], [image])
                continue
            seen, scales = zip(*(network_input(image, data) for image in group), strict=True)
            pixels = tf.stack(seen)
            sizes = np.full([len(group), 2], pixels.shape[1:3], np.float32)
            found = self.detect(pixels, sizes, tf.stack(scales), originals)
            yield from self._instances(found, originals, group)

    def batch(self, batch: dict[str, Any]) -> Iterator[Instances]:
        """Instances of each image of a pipeline batch (structures.py), at the scale it has."""
        found = self.detect(
            batch["image"], batch["image_size"], batch["scale"], batch["original_size"]
        )
        originals = np.asarray(batch["original_size"])
        return self._instances(found, originals, [None] * len(originals))

    def records(self, folder: str | Path) -> Iterator[Instances]:
        """Instances of every image of a folder of records, in order."""
        config = self.config
        if self.multi_scale or config.predict.tile:
            for record in read_records(folder):
                yield self.predict_image(decode_image(record.encoded).numpy())
            return
        batches = evaluation_dataset(
            folder, self.labels, config.data, batch_size=config.predict.batch_size
        )
        for batch in batches:
            yield from self.batch(batch)

    def _instances(
        self, found: Detections, sizes: np.ndarray, images: Sequence[np.ndarray | None]
    ) -> Iterator[Instances]:
        """Detections of B images in pixels of the images, whose sizes are (B, 2)."""
        boxes, scores, labels, votes, valid = (np.asarray(part) for part in found)
        threshold = self.config.predict.mask_threshold
        for i, (height, width) in enumerate(sizes.tolist()):
            keep = valid[i]  # (D,)
            cutouts = paste_cutouts(votes[i][keep], boxes[i][keep], height, width, threshold)
            yield Instances(
                height,
                width,
                boxes[i][keep],
                labels[i][keep],
                scores[i][keep],
                cutouts,
                self.labels,
                images[i],
            )


def _pixels(source: str | Path | bytes | np.ndarray, upright: bool) -> np.ndarray:
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, bytes):
        return read_image(io.BytesIO(source), "image", upright=upright)
    return read_image(Path(source), upright=upright)


def check_image(image: np.ndarray) -> None:
    """Raises FcisError unless it is uint8 (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise FcisError(f"image: expected uint8 (H, W, 3) RGB, found {image.dtype} {image.shape}")


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items; the last may be shorter."""
    items = iter(items)
    while group := list(itertools.islice(items, size)):
        yield group
