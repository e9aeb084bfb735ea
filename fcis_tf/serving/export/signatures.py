"""The signatures of an exported model: image files or pixels in, detections out.

Names and meanings of the outputs follow TensorFlow's Object Detection API.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.data.pipeline import network_input
from fcis_tf.model.fcis import FCIS
from fcis_tf.prediction.detector import Detector
from fcis_tf.serving.export.crops import png_crops, windows
from fcis_tf.serving.export.uploads import read_upload
from fcis_tf.structures import Tensor

BOX_FRAME_MASKS = "detection_masks"


class Served(tf.Module):
    """The signatures of an exported model.

    All take a batch; dimension 0 of every input and output is the image. Results do not depend on
    the other images in a batch. Outputs, with D slots of which the first ``num_detections`` are
    filled, best first:

    =========================  ============  ======================================================
    detection_boxes            (B, D, 4)     float32 (y0, x0, y1, x1), fractions of height and width
    detection_scores           (B, D)        float32, 0 in empty slots
    detection_classes          (B, D)        float32, raw category id as in labels.json, or 0
    detection_masks            (B, D, M, M)  uint8 0 or 1 in the frame of each box
    detection_masks_png_bytes  (B, D)        string, PNG of the mask in ``detection_windows``
    detection_windows          (B, D, 4)     int32 (y0, x0, y1, x1), pixels of the image
    num_detections             (B,)          float32
    image_size                 (B, 2)        int32 height and width of the image
    image_error                (B,)          string, empty, or why this image has no detections
    =========================  ============  ======================================================

    Args:
        model: built, with weights.
        config: its configuration.
        category_ids: raw ids of classes 1..C.
        max_pixels: image files with more are refused before they are decoded.
        upright: rotate and mirror JPEGs according to their EXIF orientation.
    """

    def __init__(
        self,
        model: FCIS,
        config: Config,
        category_ids: tuple[int, ...],
        *,
        max_pixels: int,
        upright: bool,
    ) -> None:
        super().__init__()
        # A tracked Keras variable is saved as a copy, and a session restores only the copy. So
        # TensorFlow's own variables are tracked and the model is not.
        self.weights = [variable.value for variable in model.variables]
        self.detect, self.data = Detector([model]).detect, config.data
        self.upload: dict[str, Any] = {"max_pixels": max_pixels, "upright": upright}
        self.mask_threshold = config.predict.mask_threshold
        self.category_ids = tf.constant([0, *category_ids], tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def image_bytes(self, inputs: Tensor) -> dict[str, Tensor]:
        """JPEG or PNG files of any size; a corrupt one gets ``image_error``."""
        return self._files(inputs)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def compact(self, inputs: Tensor) -> dict[str, Tensor]:
        """As `image_bytes`, without ``detection_masks``: a response small enough for JSON."""
        return {k: v for k, v in self.image_bytes(inputs).items() if k != BOX_FRAME_MASKS}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="inputs")])
    def images(self, inputs: Tensor) -> dict[str, Tensor]:
        """RGB images of one size."""
        inputs = _not_empty(inputs)
        count, size = tf.shape(inputs)[0], tf.shape(inputs)[1:3]
        pixels, scales = tf.map_fn(
            lambda image: network_input(image, self.data),
            inputs,
            fn_output_signature=(
                tf.TensorSpec([None, None, 3], tf.float32),
                tf.TensorSpec([], tf.float32),
            ),
        )
        found = self._find(pixels, scales, tf.tile(size[None], [count, 1]))
        return found | {"image_error": tf.fill([count], "")}

    def _files(self, files: Tensor) -> dict[str, Tensor]:
        files = _not_empty(files)
        count = tf.shape(files)[0]
        arrays = (
            tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=[None, None, 3]),
            tf.TensorArray(tf.float32, count, element_shape=[]),
            tf.TensorArray(tf.int32, count, element_shape=[2]),
            tf.TensorArray(tf.string, count, element_shape=[]),
            tf.TensorArray(tf.int32, count, element_shape=[2]),
        )

        def read(index: Tensor, *arrays: tf.TensorArray) -> tuple:
            upload = read_upload(files[index], self.data, **self.upload)
            values = (*upload, tf.shape(upload.pixels)[:2])
            return (index + 1, *(a.write(index, v) for a, v in zip(arrays, values, strict=True)))

        _, pixels, scales, originals, errors, sizes = tf.while_loop(
            lambda index, *arrays: index < count, read, (0, *arrays), parallel_iterations=1
        )
        errors = errors.stack()
        good = tf.cast(tf.where(errors == "")[:, 0], tf.int32)
        scales, originals = tf.gather(scales.stack(), good), tf.gather(originals.stack(), good)
        size = tf.gather(sizes.stack(), good)
        # Padding to a common size would change the features at the border.
        alike = tf.logical_and(
            tf.size(good) > 1, tf.reduce_all(size == tf.reduce_max(size, 0, keepdims=True))
        )
        found = tf.cond(
            alike,
            lambda: self._find(pixels.gather(good), scales, originals),
            lambda: self._one_by_one(lambda n: pixels.read(good[n]), scales, originals),
        )
        slots = tf.where(
            errors == "", tf.cumsum(tf.cast(errors == "", tf.int32)) - 1, tf.size(good)
        )
        return {name: _spread(v, slots) for name, v in found.items()} | {"image_error": errors}

    def _one_by_one(
        self, pixels: Callable[[Tensor], Tensor], scales: Tensor, originals: Tensor
    ) -> dict[str, Tensor]:
        """As `_find`; ``pixels(n)`` (H, W, 3) is that of image n."""

        def find(n: Tensor) -> dict[str, Tensor]:
            found = self._find(pixels(n)[None], scales[n][None], originals[n][None])
            return {name: value[0] for name, value in found.items()}

        one = self._find.get_concrete_function().structured_outputs
        signature = {name: tf.TensorSpec(v.shape[1:], v.dtype) for name, v in one.items()}
        numbers = tf.range(tf.shape(scales)[0])
        return tf.map_fn(find, numbers, fn_output_signature=signature, parallel_iterations=1)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.float32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([None, 2], tf.int32),
        ]
    )
    def _find(self, pixels: Tensor, scale: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Detections in images (B, H, W, 3) of one size, ``original`` (B, 2) before resizing."""
        size = tf.tile(tf.cast(tf.shape(pixels)[1:3], tf.float32)[None], [tf.shape(pixels)[0], 1])
        found = self.detect(pixels, size, scale, original)
        # Empty slots go to the end; a vote can leave one in the middle.
        order = tf.argsort(tf.cast(found.valid, tf.int32), direction="DESCENDING", stable=True)
        boxes, scores, labels, votes, taken = (tf.gather(p, order, batch_dims=1) for p in found)
        valid = tf.cast(taken, tf.float32)
        boxes *= valid[..., None]
        sides = tf.cast(tf.concat([original, original], -1), tf.float32)[:, None, :]
        window = windows(boxes, original)
        return {
            "detection_boxes": boxes / sides,
            "detection_scores": scores * valid,
            "detection_classes": tf.gather(self.category_ids, labels) * valid,
            BOX_FRAME_MASKS: tf.cast(votes >= self.mask_threshold, tf.uint8)
            * tf.cast(taken, tf.uint8)[..., None, None],
            "detection_masks_png_bytes": png_crops(
                votes, boxes, window, taken, self.mask_threshold
            ),
            "detection_windows": window,
            "num_detections": tf.reduce_sum(valid, -1),
            "image_size": original,
        }


def _not_empty(inputs: Tensor) -> Tensor:
    check = tf.debugging.assert_positive(
        tf.shape(inputs)[0], "inputs: expected at least one image, found an empty batch"
    )
    with tf.control_dependencies([check]):  # before other operations fail on an empty batch
        return tf.identity(inputs)


def _spread(values: Tensor, slots: Tensor) -> Tensor:
    """Row ``slots[i]`` of `values` (n, ...), or zeros and empty strings where that is n."""
    empty = tf.fill(tf.concat([[1], tf.shape(values)[1:]], 0), tf.zeros([], values.dtype))
    return tf.gather(tf.concat([values, empty], 0), slots)
