"""Score maps, the last convolutions of the network, and what each ROI reads from them."""

from typing import Any

import tensorflow as tf
from keras import layers

from fcis_tf.model.rpn import head_convolution
from fcis_tf.ops import ps_assemble, ps_average
from fcis_tf.structures import Heads, Maps, Tensor


class ScoreMaps(layers.Layer):
    """conv_new_1 and the two 1 x 1 convolutions that make all k * k groups of maps (paper 2.3)."""

    def __init__(
        self, classes: int, *, group_size: int, channels: int, init: str, dtype: str, **options: Any
    ):
        super().__init__(dtype=dtype, **options)
        cells = group_size * group_size

        self.shared = head_convolution(
            channels, 1, "conv_new_1", init=init, dtype=dtype, activation="relu"
        )
        self.scores = head_convolution(cells * 2 * (classes + 1), 1, "fcis_cls_seg", dtype=dtype)
        self.boxes = head_convolution(cells * 4, 1, "fcis_bbox", dtype=dtype)

    def call(self, conv5: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Hf, Wf, c) -> (B, Hf, Wf, k * k * 2 * K) and (B, Hf, Wf, k * k * 4)."""
        shared = self.shared(conv5)
        return _assembled(self.scores(shared)), _assembled(self.boxes(shared))


def _assembled(maps: Tensor) -> Tensor:
    """In a type that the assembly takes, which float16 is not."""
    return tf.cast(maps, tf.float32) if maps.dtype == tf.float16 else maps


def read_heads(
    maps: Maps,
    rois: Tensor,
    labels: Tensor | None = None,
    *,
    score_maps: str = "joint",
    group_size: int,
    pooled_size: int,
    stride: int,
    impl: str = "auto",
) -> Heads:
    """Class logits, box deltas and mask logits of rois (B, N, 4); `labels` as in `ps_assemble`.

    With "joint" `score_maps`, FCIS proper, the two sides of a class answer both questions. With
    "separate", the ablation of paper Table 1, side 0 only says which class it is and side 1 alone
    which bins are inside, against a logit of 0.
    """
    geometry: dict[str, Any] = {
        "group_size": group_size,
        "pooled_size": pooled_size,
        "stride": stride,
        "impl": impl,
    }
    box_deltas = ps_average(maps.boxes, rois, **geometry)
    if score_maps == "joint":
        class_logits, mask_logits = ps_assemble(maps.scores, rois, labels, **geometry)
        return Heads(class_logits, box_deltas, mask_logits)
    shape = tf.shape(maps.scores)
    classes = maps.scores.shape[-1] // (2 * group_size * group_size)
    sides = tf.reshape(maps.scores, [*tf.unstack(shape[:3]), group_size**2, 2, classes])
    class_maps = tf.reshape(sides[..., 0, :], [*tf.unstack(shape[:3]), group_size**2 * classes])
    class_logits = ps_average(class_maps, rois, **geometry)
    if labels is None:
        labels = 1 + tf.argmax(class_logits[..., 1:], -1, output_type=tf.int32)
    _, both = ps_assemble(maps.scores, rois, labels, **geometry)
    inside = both[..., 1]
    return Heads(class_logits, box_deltas, tf.stack([tf.zeros_like(inside), inside], -1))
