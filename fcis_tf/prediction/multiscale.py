"""Each ROI read from the scale at which it has the size the network knows best (paper section 4.2).

Proposals come from one scale, the validation scale. The scales are gone through one after another,
so that only the maps of one are in memory; a scale that no ROI asks for is left out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fcis_tf.config import DataConfig
from fcis_tf.data.pipeline import network_input
from fcis_tf.geometry import boxes as box_ops
from fcis_tf.prediction.detector import Detector
from fcis_tf.structures import Candidates, Detections, Heads, ImageInfo, Tensor

PIXELS = tf.TensorSpec([1, None, None, 3], tf.float32)
SIZE = tf.TensorSpec([1, 2], tf.float32)
ROIS = tf.TensorSpec([1, None, 4], tf.float32)
VALID = tf.TensorSpec([1, None], tf.bool)
INFO = ImageInfo(SIZE, tf.TensorSpec([1], tf.float32), tf.TensorSpec([1, 2], tf.int32))


class MultiScale:
    """Detection in one image over several scales.

    Args:
        detector: scores the ROIs.
        scales: sizes of the image relative to the validation scale.
        side: a ROI is read where its area is closest to ``side ** 2`` network pixels.
    """

    def __init__(self, detector: Detector, *, scales: Sequence[float], side: float) -> None:
        self.detector, self.scales, self.side = detector, tuple(scales), side
        self.propose = tf.function(self._propose, input_signature=[PIXELS, SIZE])
        self.score_rois = tf.function(
            self._score_rois, input_signature=[PIXELS, SIZE, ROIS, tf.TensorSpec([], tf.float32)]
        )
        first = detector.members[0]
        bins = first.geometry["pooled_size"]
        heads = Heads(
            tf.TensorSpec([1, None, first.classes + 1], tf.float32),
            ROIS,
            tf.TensorSpec([1, None, bins, bins, 2], tf.float32),
        )
        self.postprocess = tf.function(
            detector.postprocess,
            input_signature=[Candidates(ROIS, VALID, heads), INFO, ROIS],
        )

    def detect(self, image: np.ndarray, data: DataConfig) -> Detections:
        """Instances of one image (H0, W0, 3) uint8, as a batch of one.

        `data` gives the validation scale, as for `network_input`.
        """
        pixels, factor = network_input(image, data)
        size = _size(pixels)
        rois = np.asarray(self.propose(pixels[None], size))
        choice = self.choose(rois[0])
        parts = []
        for number, scale in enumerate(self.scales):
            chosen = rois[:, choice == number]
            if chosen.size:
                seen, _ = network_input(image, data, relative=scale)
                parts.append(self.score_rois(seen[None], _size(seen), chosen, scale))
        joined: Any = tf.nest.map_structure(lambda *values: tf.concat(values, 1), *parts)
        candidates, frames = joined
        info = ImageInfo(size, factor[None], tf.constant([image.shape[:2]], tf.int32))
        return self.postprocess(candidates, info, frames)

    def choose(self, rois: np.ndarray) -> np.ndarray:
        """For each of rois (N, 4), in pixels at scale 1, the number (N,) of its scale."""
        area = np.prod(rois[:, 2:] - rois[:, :2], axis=1, dtype=np.float64)
        areas = area[:, None] * np.square(self.scales)
        return np.argmin(np.abs(areas - self.side**2), axis=1)

    def _propose(self, pixels: Tensor, size: Tensor) -> Tensor:
        found = self.detector.propose(self.detector.compute_maps(pixels, size), size)
        return found.boxes[:, : tf.math.count_nonzero(found.valid)]

    def _score_rois(
        self, pixels: Tensor, size: Tensor, rois: Tensor, scale: Tensor
    ) -> tuple[Candidates, Tensor]:
        """What the image at one scale says of rois at scale 1, and the boxes its masks span.

        The second pass stays at the scale of the first.
        """
        all_maps = self.detector.compute_maps(pixels, size)
        scaled = box_ops.clip(rois * scale, size[:, None, :])
        valid = tf.ones(tf.shape(rois)[:2], tf.bool)
        moved, valid, heads = self.detector.score_rois_twice(all_maps, scaled, valid, size)
        return Candidates(moved / scale, valid, Heads(*heads)), tf.round(moved) / scale


def _size(image: Tensor) -> Tensor:
    return tf.cast(tf.shape(image)[:2], tf.float32)[None]
