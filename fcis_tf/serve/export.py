"""A SavedModel of stock TensorFlow operations, with the whole of inference inside.

Names and meanings of the outputs follow TensorFlow's Object Detection API.
"""

import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.data.images import decode_image
from fcis_tf.data.pipeline import network_input
from fcis_tf.errors import FcisError
from fcis_tf.inference import load_run, resizing
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.fold import fold
from fcis_tf.structures import Tensor


class Served(tf.Module):
    """The signatures of an exported model.

    Both take a batch; dimension 0 of every input and output is the image. Outputs, with D slots of
    which the first ``num_detections`` are filled, best first:

    ==================  ==============  ===========================================================
    detection_boxes     (B, D, 4)       float32 (y0, x0, y1, x1), fractions of height and width
    detection_scores    (B, D)          float32, 0 in empty slots
    detection_classes   (B, D)          float32, raw category id of labels.json, 0 in empty slots
    detection_masks     (B, D, M, M)    uint8 0 or 1 in the frame of each box
    num_detections      (B,)            float32
    ==================  ==============  ===========================================================

    Args:
        model: built, with weights.
        config: its configuration.
        category_ids: raw ids of classes 1..C.
    """

    def __init__(self, model: FCIS, config: Config, category_ids: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.resizing = model, resizing(config)
        self.mask_threshold = config.predict.mask_threshold
        self.category_ids = tf.constant([0, *category_ids], tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def image_bytes(self, inputs: Tensor) -> dict[str, Tensor]:
        """JPEG or PNG files; they may differ in size."""

        def decoded(index: Tensor) -> Tensor:
            return decode_image(inputs[index])

        return self._detect(decoded, tf.shape(inputs)[0])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="inputs")])
    def images(self, inputs: Tensor) -> dict[str, Tensor]:
        """RGB images of one size."""
        return self._detect(lambda index: inputs[index], tf.shape(inputs)[0])

    def _detect(self, image: Any, count: Tensor) -> dict[str, Tensor]:
        batch, size, scale, original = self._batch(image, count)
        found = self.model.detect(batch, size, scale, original)
        sides = tf.cast(tf.concat([original, original], -1), tf.float32)[:, None, :]
        valid = tf.cast(found.valid, tf.float32)
        # Empty slots go to the end; a vote can leave one in the middle.
        order = tf.argsort(valid, direction="DESCENDING", stable=True)
        outputs = {
            "detection_boxes": found.boxes / sides * valid[..., None],
            "detection_scores": found.scores * valid,
            "detection_classes": tf.gather(self.category_ids, found.labels) * valid,
            "detection_masks": tf.cast(found.masks >= self.mask_threshold, tf.uint8)
            * tf.cast(found.valid, tf.uint8)[..., None, None],
        }
        outputs = {name: tf.gather(v, order, batch_dims=1) for name, v in outputs.items()}
        return outputs | {"num_detections": tf.reduce_sum(valid, -1)}

    def _batch(self, image: Any, count: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Resize each image and pad all to the largest.

        Returns (B, H, W, 3) float32, (B, 2) float32 sizes without padding, (B,) float32 scales and
        (B, 2) int32 original sizes.
        """
        pixels = tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=[None, None, 3])
        scales = tf.TensorArray(tf.float32, count, element_shape=[])
        sizes = tf.TensorArray(tf.int32, count, element_shape=[2])
        originals = tf.TensorArray(tf.int32, count, element_shape=[2])

        def prepare(index: Tensor, *arrays: Any) -> tuple[Any, ...]:
            one = image(index)
            prepared, scale = network_input(one, **self.resizing)
            values = (prepared, scale, tf.shape(prepared)[:2], tf.shape(one)[:2])
            written = (a.write(index, v) for a, v in zip(arrays, values, strict=True))
            return (index + 1, *written)

        _, pixels, scales, sizes, originals = tf.while_loop(
            lambda index, *arrays: index < count,
            prepare,
            (0, pixels, scales, sizes, originals),
            parallel_iterations=1,
        )
        size = sizes.stack()
        largest = tf.reduce_max(size, 0)

        def padded(index: Tensor) -> Tensor:
            one = pixels.read(index)
            room = largest - tf.shape(one)[:2]
            return tf.pad(one, [[0, room[0]], [0, room[1]], [0, 0]])

        batch = tf.map_fn(
            padded,
            tf.range(count),
            fn_output_signature=tf.TensorSpec([None, None, 3], tf.float32),
        )
        return batch, tf.cast(size, tf.float32), scales.stack(), originals.stack()


def export(run: Path, out: Path, *, overrides: tuple[str, ...] = ()) -> Path:
    """Write the SavedModel of a run into a version folder, such as ``export/1``.

    ``labels.json`` and ``config.yaml`` lie beside it in ``assets.extra``. The folder appears only
    when it is whole.

    Raises:
        FcisError: not a run, a way of predicting that is not one graph, or `out` exists.
    """
    if out.exists():
        raise FcisError(f"{out}: exists; export to another version number")
    config, labels, model = load_run(run, overrides, ops="stock")
    for key in ("scales", "ensemble", "tile"):
        if getattr(config.predict, key):
            raise FcisError(
                f"predict.{key}: an exported model looks at one image with one network once; "
                f"set predict.{key}={'[]' if key == 'ensemble' else 'null'}"
            )
    served = Served(fold(model), config, labels.ids)
    partial = out.with_name(f"partial.{out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tf.saved_model.save(
            served,
            str(partial),
            signatures={"serving_default": served.image_bytes, "images": served.images},
        )
        extra = partial / "assets.extra"
        extra.mkdir(exist_ok=True)
        labels.save(extra / "labels.json")
        config.save(extra / "config.yaml")
        partial.rename(out)
    except (OSError, tf.errors.OpError) as fault:
        text = getattr(fault, "strerror", None) or " ".join(str(fault).split())[:160]
        raise FcisError(f"{out}: cannot write the SavedModel: {text}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out
