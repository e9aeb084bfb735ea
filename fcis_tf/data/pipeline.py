"""Records to padded batches with tf.data: decode, augment, resize, pad; see order.py for when."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from fcis_tf.config import DataConfig
from fcis_tf.data import augment, resize_released
from fcis_tf.data.augment import Example
from fcis_tf.data.order import draws
from fcis_tf.data.parse import parse
from fcis_tf.data.records import record_files
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.structures import Tensor

BATCH_KEYS = (
    "image", "image_size", "scale", "boxes", "labels", "masks", "image_id", "original_size", "seed",
)  # fmt: skip
PADDING = {"labels": -1}
RESIZE = {"exact": augment.resize, "released": resize_released.resize}


def training_dataset(
    folder: str | Path,
    *,
    labels: Labels,
    batch_size: int,
    seed: int,
    step_size: int | None = None,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    short_sides: Sequence[int] = (600,),
    long_side: int = 1000,
    factors: Sequence[float] | None = None,
    crop: int | None = None,
    crop_from: int = 864,
    flip: bool = True,
    turn: bool = False,
    scale_jitter: Sequence[float] | None = None,
    color_jitter: float = 0.0,
    mask_size: int = 112,
    max_instances: int = 100,
    aspect_grouping: bool = True,
    shuffle_buffer: int = 1024,
    cache: bool = False,
    resize: str = "exact",
    service: str | None = None,
) -> tf.data.Dataset:
    """Endless shuffled, augmented `batch` dictionaries (structures.py).

    The images of a step and every random choice follow from `seed` and `step_size` alone, however
    a step is cut into batches and shared by hosts. Images without an instance that is not a crowd
    are left out. Landscape and portrait images do not share a step.

    Args:
        folder: records.
        labels: the classes.
        batch_size: images per batch, padded to one size.
        seed: of order and augmentation.
        step_size: images of one update, over all its batches, devices and hosts; by default those
            of a batch.
        start: number of the first step; no image before it is decoded, few are read.
        shard: (index, count): of every step only the index-th of count equal parts. Every host
            reads all records but decodes its part only.
        short_sides: shorter sides, one drawn per image.
        long_side: cap of the longer side at ``short_sides[0]``, in proportion at others.
        factors: resize by one of these instead.
        crop: side of the random window, None for whole images.
        crop_from: crop images whose resized shorter side is at least this.
        flip: mirror half of the images.
        turn: also turn and mirror them, so that each of the eight ways is equally likely.
        scale_jitter: least and largest random factor, uniform, on top of the resizing.
        color_jitter: see `augment.color_jitter`.
        mask_size: M.
        max_instances: most ground-truth instances of an image; others are left out at random.
        aspect_grouping: see above.
        shuffle_buffer: records shuffled at a time.
        cache: keep decoded images and masks in memory.
        resize: "exact", or "released" as the released code; see resize_released.py.
        service: address of a tf.data service whose workers make the batches. Each works on an epoch
            of its own: with several, batches of several epochs mix, in no fixed order.

    Raises:
        FcisError: no records, none with an instance, or a crop that `resize` does not do.
        ValueError: a step does not divide into shards of whole batches.
    """
    step_size = step_size or batch_size
    part, parts = shard
    if step_size % (batch_size * parts):
        raise ValueError(f"{step_size} images do not divide into {parts} x batches of {batch_size}")
    if resize == "released" and crop:
        raise FcisError("data.crop: the released code has no crops; set data.resize=exact")
    mask_side = None if resize == "released" else mask_size
    read = partial(parse, category_ids=labels.ids, mask_size=mask_side)
    stream = draws(
        record_files(folder),
        step_size=step_size,
        seed=seed,
        start=start,
        group_by_aspect=aspect_grouping,
        shuffle_buffer=shuffle_buffer,
        cached=read if cache else None,
    )
    if parts > 1:
        stream = stream.filter(lambda index, _: index % step_size * parts // step_size == part)

    def example(index: Tensor, content: Tensor | Example) -> Example:
        content = content if cache else read(content)
        pair = tf.stack([tf.constant(seed, tf.int32), tf.cast(index, tf.int32)])
        one = augment.drop_crowds(content) | {"seed": pair}
        one = augment.limit_instances(one, max_instances, _seed(pair, 1))
        if flip:
            mirror = tf.random.stateless_uniform([], _seed(pair, 2)) < 0.5
            one = tf.cond(mirror, lambda: augment.flip(one), lambda: dict(one))
        if turn:
            one = _turn(one, _seed(pair, 6))
        size = one["original_size"] = tf.shape(one["image"])[:2]
        if factors:
            factor = augment.draw_one(factors, _seed(pair, 3))
        else:
            side = augment.draw_one(short_sides, _seed(pair, 3))
            factor = augment.resize_factor(size, side, long_side * side / short_sides[0])
        if scale_jitter:
            low, high = scale_jitter
            drawn = tf.random.stateless_uniform([], _seed(pair, 7), low, high)
            factor = tf.cast(factor, tf.float32) * drawn
        if crop:
            one = _resize_and_maybe_crop(one, factor, crop, crop_from, _seed(pair, 4))
        else:
            one = RESIZE[resize](one, factor)
        if color_jitter:
            one = augment.color_jitter(one, color_jitter, _seed(pair, 5))
        return _finish(one)

    batches = _pad(stream.map(example, tf.data.AUTOTUNE, deterministic=True), batch_size)
    if service:
        policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        batches = batches.apply(
            tf.data.experimental.service.distribute(processing_mode=policy, service=service)
        )
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return batches.apply(endless).prefetch(tf.data.AUTOTUNE)


def augmentation(data: DataConfig) -> dict[str, Any]:
    """The keyword values of `training_dataset` that a configuration holds."""
    return data.model_dump(
        include={
            "short_sides", "long_side", "factors", "crop", "crop_from", "flip", "turn",
            "scale_jitter", "color_jitter", "mask_size", "max_instances", "aspect_grouping",
            "shuffle_buffer", "cache", "resize", "service",
        }
    )  # fmt: skip


def evaluation_dataset(
    folder: str | Path,
    *,
    labels: Labels,
    short_side: int,
    long_side: int,
    factor: float | None,
    mask_size: int,
    max_instances: int,
    batch_size: int,
    resize: str = "exact",
) -> tf.data.Dataset:
    """Every record once, in order, as `batch` dictionaries; the last batch may be smaller.

    Crowds stay out of the ground truth here too; evaluation proper reads them from the records.
    """

    mask_side = None if resize == "released" else mask_size

    def example(index: Tensor, serialized: Tensor) -> Example:
        one = parse(serialized, category_ids=labels.ids, mask_size=mask_side)
        one = augment.drop_crowds(one)
        one["seed"] = tf.stack([0, tf.cast(index, tf.int32)])
        one["original_size"] = tf.shape(one["image"])[:2]
        one = augment.limit_instances(one, max_instances, one["seed"])
        factor_of_one = _factor(one["original_size"], short_side, long_side, factor)
        return _finish(RESIZE[resize](one, factor_of_one))

    records = tf.data.TFRecordDataset([str(file) for file in record_files(folder)])
    examples = records.enumerate().map(example, tf.data.AUTOTUNE, deterministic=True)
    return _pad(examples, batch_size).prefetch(tf.data.AUTOTUNE)


def network_input(
    image: Tensor,
    *,
    short_side: int,
    long_side: int,
    factor: float | None,
    resize: str = "exact",
    relative: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One image as prediction sees it.

    Args:
        image: (H0, W0, 3) uint8 RGB.
        short_side: length of the shorter side.
        long_side: cap of the longer one.
        factor: resize by this instead.
        resize: "exact" or "released", as in `training_dataset`.
        relative: makes the image so many times as large again.

    Returns:
        (H, W, 3) float32 less the channel means, and () float32 network pixels per original pixel.
    """
    scale = _factor(tf.shape(image)[:2], short_side, long_side, factor) * relative
    one = RESIZE[resize]({"image": image, "boxes": tf.zeros([0, 4])}, scale)
    return augment.subtract_means(one)["image"], one["scale"]


def _factor(size: Tensor, short_side: int, long_side: int, factor: float | None) -> Tensor:
    if factor is not None:
        return tf.constant(factor, tf.float64)
    return augment.resize_factor(size, short_side, long_side)


def _turn(example: Example, seed: Tensor) -> Example:
    """Mirror half of the examples up to down, then transpose half of either."""
    draws = tf.random.stateless_uniform([2], seed) < 0.5

    def upside_down() -> Example:
        return augment.transpose(augment.flip(augment.transpose(example)))

    mirrored = tf.cond(draws[0], upside_down, lambda: dict(example))
    return tf.cond(draws[1], lambda: augment.transpose(mirrored), lambda: dict(mirrored))


def _resize_and_maybe_crop(
    example: Example, factor: Tensor, side: int, crop_from: int, seed: Tensor
) -> Example:
    full = augment.resized_size(example["original_size"], factor)
    window = tf.minimum(full, side)
    room = tf.cast(full - window + 1, tf.float32)
    corner = tf.cast(tf.random.stateless_uniform([2], seed) * room, tf.int32)
    return tf.cond(
        tf.reduce_min(full) >= crop_from,
        lambda: augment.resize_and_crop(example, factor, corner, window),
        lambda: augment.resize(example, factor),
    )


def _finish(example: Example) -> Example:
    example = augment.subtract_means(example)
    example["image_size"] = tf.cast(tf.shape(example["image"])[:2], tf.float32)
    return {key: example[key] for key in BATCH_KEYS}


def _pad(examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    padding = {
        key: tf.constant(PADDING.get(key, "" if spec.dtype == tf.string else 0), spec.dtype)
        for key, spec in examples.element_spec.items()
    }
    return examples.padded_batch(batch_size, padding_values=padding)


def _seed(pair: Tensor, salt: int) -> Tensor:
    return tf.random.fold_in(pair, salt)
