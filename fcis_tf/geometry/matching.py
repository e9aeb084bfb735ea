"""Matching boxes to ground truth and drawing a fixed number of them; serves anchors and ROIs."""

import tensorflow as tf

from fcis_tf.geometry.boxes import iou
from fcis_tf.structures import Tensor


def match(boxes: Tensor, truth: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ground-truth instance that overlaps each box most.

    Args:
        boxes: (B, N, 4).
        truth: (B, G, 4), padded.
        present: (B, G) bool, False on padding.

    Returns:
        best (B, N) int32, the first of the best instances; overlap (B, N), its IoU, 0 if there is
        no instance; overlaps (B, N, G), all IoUs, 0 on padding.
    """
    slot = [[0, 0], [0, 1]]  # one absent instance, so that the arg-max exists when G is 0
    overlaps = iou(boxes, truth) * tf.cast(present, tf.float32)[:, None, :]  # (B, N, G)
    padded = tf.pad(overlaps, [[0, 0], *slot])  # (B, N, G + 1)
    best = tf.argmax(padded, -1, output_type=tf.int32)
    overlap = tf.reduce_max(padded, -1)
    # With G of 1 or more the added slot is never the first of the best; with 0 the index is 0.
    return tf.minimum(best, tf.maximum(tf.shape(truth)[1] - 1, 0)), overlap, overlaps


def random_keys(seed: Tensor, count: Tensor, salt: int) -> Tensor:
    """Random numbers (B, count) in [0, 1) that depend only on each image's seed pair and `salt`.

    Drawn image by image so that an image gets the same numbers in a batch of any size on any
    device.
    """

    def draw(pair: Tensor) -> Tensor:
        return tf.random.stateless_uniform([count], tf.random.fold_in(pair, salt))

    return tf.map_fn(draw, seed, fn_output_signature=tf.float32)


def subsample(candidates: Tensor, count: Tensor, most: int, keys: Tensor) -> Tensor:
    """Mark at most `count` of the candidates of each image, uniformly without replacement.

    Args:
        candidates: (B, N) bool.
        count: (B,) int32, at most `most`.
        most: static bound of `count`.
        keys: (B, N) random numbers in [0, 1); the largest are taken.

    Returns:
        (B, N) bool, a subset of `candidates`.
    """
    shape = tf.shape(candidates)
    # The candidates with the largest random keys, at most `most` of them; -1 for all others.
    ranked = tf.math.top_k(
        tf.where(candidates, keys, -1.0), tf.minimum(most, shape[1]), sorted=True
    )
    order = tf.range(tf.shape(ranked.indices)[1])  # (k,), k = min(most, N)
    # `count` is a tensor and differs by image, so it masks ranks instead of cutting them off.
    taken = (ranked.values >= 0.0) & (order[None] < count[:, None])
    image = tf.broadcast_to(tf.range(shape[0])[:, None], tf.shape(ranked.indices))
    places = tf.stack([image, ranked.indices], -1)  # (B, k, 2)
    return tf.scatter_nd(places, tf.cast(taken, tf.int32), shape) > 0
