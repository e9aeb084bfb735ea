"""Region proposal network: its convolutions, and proposals from what they say."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from fcis_tf.geometry import boxes as box_ops
from fcis_tf.structures import Proposals, Rpn, Tensor


def head_convolution(
    width: int, size: int, name: str, *, dtype: str, init: str = "released", **options: Any
) -> layers.Conv2D:
    """A convolution of the heads, its kernel N(0, 0.01) ("released") or He-normal ("he").

    0.01 suits the thousands of input channels of a ResNet and starves a narrow network.
    """
    small = keras.initializers.RandomNormal(stddev=0.01)
    return layers.Conv2D(
        width,
        size,
        padding="same",
        kernel_initializer=small if init == "released" else "he_normal",
        name=name,
        dtype=dtype,
        **options,
    )


class RpnHead(layers.Layer):
    """3 x 3 convolution with two 1 x 1 siblings on conv4 (`get_rpn` of the released code).

    Score channels are all backgrounds, then all objects; box channels are (anchor, delta).
    """

    def __init__(self, anchors: int, *, channels: int, init: str, dtype: str, **options: Any):
        super().__init__(dtype=dtype, **options)
        self.anchors = anchors

        self.shared = head_convolution(
            channels, 3, "rpn_conv_3x3", init=init, dtype=dtype, activation="relu"
        )
        self.score = head_convolution(2 * anchors, 1, "rpn_cls_score", dtype=dtype)
        self.box = head_convolution(4 * anchors, 1, "rpn_bbox_pred", dtype=dtype)

    def call(self, conv4: Tensor) -> Rpn:
        """(B, Hf, Wf, c) -> logits (B, Hf * Wf * a, 2) and deltas (B, Hf * Wf * a, 4), float32."""
        shared = self.shared(conv4)
        shape = tf.shape(shared)
        # Channels are all backgrounds, then all objects; anchors come before the two sides here.
        scores = tf.reshape(self.score(shared), [shape[0], -1, 2, self.anchors])  # (B, cells, 2, a)
        logits = tf.reshape(tf.transpose(scores, [0, 1, 3, 2]), [shape[0], -1, 2])  # (B, A, 2)
        deltas = tf.reshape(self.box(shared), [shape[0], -1, 4])  # (B, A, 4)
        return Rpn(tf.cast(logits, tf.float32), tf.cast(deltas, tf.float32))


def propose(
    rpn: Rpn,
    anchors: Tensor,
    image_size: Tensor,
    *,
    count: int,
    pre_nms: int,
    nms_threshold: float,
    min_size: float,
    stride: int | None = None,
) -> Proposals:
    """The best `count` boxes of each image after non-maximum suppression (released
    `proposal.py: ProposalOperator.forward`).

    No gradient flows through them. An image in which no box survives gets one proposal, the whole
    image, so that nothing downstream meets an empty set.

    Args:
        rpn: outputs for every anchor.
        anchors: (A, 4).
        image_size: (B, 2) height and width without padding.
        count: N.
        pre_nms: how many of the best boxes enter the suppression.
        nms_threshold: IoU above which the lower-scored box goes.
        min_size: least height and width in network pixels.
        stride: network pixels per cell, to leave out the anchors of the last row and column where
            the image does not fill them, as the released code does.
    """
    rpn = Rpn(tf.stop_gradient(rpn.logits), tf.stop_gradient(rpn.deltas))
    boxes = box_ops.clip(box_ops.decode(rpn.deltas, anchors), image_size[:, None, :])  # (B, A, 4)
    sides = boxes[..., 2:] - boxes[..., :2]  # (B, A, 2)
    # A side that clipping has emptied is too small whatever min_size is.
    usable = tf.reduce_all((sides >= min_size) & (sides > 0.0), -1)
    if stride:  # anchors of cells that the image does not fill are left out
        middle = 0.5 * (anchors[:, :2] + anchors[:, 2:])
        whole_cells = stride * tf.floor(image_size / stride)
        usable &= tf.reduce_all(middle[None] < whole_cells[:, None, :], -1)
    scores = tf.where(usable, tf.nn.softmax(rpn.logits)[..., 1], -1.0)  # (B, A)
    # Only the best enter the suppression, whose time grows with the square of their number.
    best = tf.math.top_k(scores, tf.minimum(pre_nms, tf.shape(scores)[1]))
    boxes = tf.gather(boxes, best.indices, batch_dims=1)  # (B, pre_nms, 4)
    return _suppress(boxes, best.values, image_size, count, nms_threshold)


def merge_proposals(
    proposals: Sequence[Proposals], image_size: Tensor, *, count: int, nms_threshold: float
) -> Proposals:
    """The best `count` boxes of several proposals for the same images, without duplicates.

    Args:
        proposals: each (B, n, 4), in the same pixels.
        image_size: (B, 2) height and width without padding.
        count: N.
        nms_threshold: as in `propose`.
    """
    boxes = tf.concat([part.boxes for part in proposals], 1)  # (B, sum of n, 4)
    scores = tf.concat([tf.where(part.valid, part.scores, -1.0) for part in proposals], 1)
    return _suppress(boxes, scores, image_size, count, nms_threshold)


def _suppress(
    boxes: Tensor, scores: Tensor, image_size: Tensor, count: int, nms_threshold: float
) -> Proposals:
    """The best of boxes (B, n, 4) with scores (B, n) above 0, or else the whole image."""
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        scores[..., None],
        max_output_size_per_class=count,
        max_total_size=count,
        iou_threshold=nms_threshold,
        score_threshold=0.0,
        clip_boxes=False,
    )
    # Suppression fills its slots from the front; an image without any box gets the whole image.
    order = tf.range(count)[None, :]  # (1, N)
    none = (kept.valid_detections == 0)[:, None] & (order == 0)
    whole = tf.concat([tf.zeros_like(image_size), image_size], -1)[:, None, :]  # (B, 1, 4)
    return Proposals(
        boxes=tf.where(none[..., None], whole, kept.nmsed_boxes),
        scores=kept.nmsed_scores,
        valid=(order < kept.valid_detections[:, None]) | none,
    )
