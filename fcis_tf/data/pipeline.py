"""Records to padded batches with tf.data: decode, augment, resize, pad.

`order.py` decides which record comes when; here each record becomes an `example` and then a row of
a `batch` (both in structures.py).
"""

from functools import partial
from pathlib import Path

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
PADDING = {"labels": -1}  # 0 for everything else
RESIZE = {"exact": augment.resize, "released": resize_released.resize}

# Every random choice has a number of its own, which is folded into the seed of the draw. So no
# choice changes when another one is switched on.
INSTANCES, FLIP, SCALE, WINDOW, COLOR, TURN, JITTER = range(1, 8)


def training_dataset(
    folder: str | Path,
    labels: Labels,
    data: DataConfig,
    *,
    batch_size: int,
    seed: int,
    step_size: int | None = None,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Endless shuffled, augmented `batch` dictionaries (structures.py).

    The images of a step and every random choice follow from `seed` and `step_size` alone, however
    a step is cut into batches and shared by hosts. Images without an instance that is not a crowd
    are left out. With ``data.aspect_grouping`` landscape and portrait images do not share a step.
    With ``data.service`` the workers of a tf.data service make the batches. Each works on an epoch
    of its own: with several, batches of several epochs mix, in no fixed order.

    Args:
        folder: records.
        labels: the classes.
        data: sizes, augmentation and shuffling.
        batch_size: images per batch, padded to one size.
        seed: of order and augmentation.
        step_size: images of one update, over all its batches, devices and hosts; by default those
            of a batch.
        start: number of the first step; no image before it is decoded, few are read.
        shard: (index, count): of every step only the index-th of count equal parts. Every host
            reads all records but decodes its part only.

    Raises:
        FcisError: no records, none with an instance, or a crop that ``data.resize`` does not do.
        ValueError: a step does not divide into shards of whole batches.
    """
    step_size = step_size or batch_size
    part, parts = shard
    if step_size % (batch_size * parts):
        raise ValueError(f"{step_size} images do not divide into {parts} x batches of {batch_size}")
    if data.resize == "released" and data.crop:
        raise FcisError("data.crop: the released code has no crops; set data.resize=exact")
    read = partial(parse, category_ids=labels.ids, mask_size=mask_side(data))
    cached = read if data.cache else None
    stream = draws(
        record_files(folder), data, step_size=step_size, seed=seed, start=start, cached=cached
    )
    if parts > 1:
        # Draw n is place n % step_size of its step; the part-th of `parts` equal runs of places.
        stream = stream.filter(lambda index, _: index % step_size * parts // step_size == part)

    def example(index: Tensor, content: Tensor | Example) -> Example:
        # The pair names this draw: the same image of another epoch has another one.
        pair = tf.stack([tf.constant(seed, tf.int32), tf.cast(index, tf.int32)])  # (2,)
        return augmented(content if data.cache else read(content), pair, data)

    batches = _pad(stream.map(example, tf.data.AUTOTUNE, deterministic=True), batch_size)
    if data.service:
        policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        batches = batches.apply(
            tf.data.experimental.service.distribute(processing_mode=policy, service=data.service)
        )
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return batches.apply(endless).prefetch(tf.data.AUTOTUNE)


def augmented(example: Example, seed: Tensor, data: DataConfig) -> Example:
    """One row of a training batch, without padding: a parsed record, augmented and resized.

    Args:
        example: see `parse`.
        seed: (2,) int32, a different pair for every draw; all randomness follows from it.
        data: sizes and augmentation.
    """
    example = augment.drop_crowds(example) | {"seed": seed}
    example = augment.limit_instances(example, data.max_instances, _seed(seed, INSTANCES))
    # Mirroring and turning come first, where images and box-frame masks are smallest.
    if data.flip:
        mirror = tf.random.stateless_uniform([], _seed(seed, FLIP)) < 0.5
        upright = example
        example = tf.cond(mirror, lambda: augment.flip(upright), lambda: dict(upright))
    if data.turn:
        example = _turn(example, _seed(seed, TURN))
    size = example["original_size"] = tf.shape(example["image"])[:2]  # (2,), as it lies now
    if data.factors:
        factor = augment.draw_one(data.factors, _seed(seed, SCALE))
    else:
        # `long_side` belongs to the first of the short sides, and grows with the one drawn.
        side = augment.draw_one(data.short_sides, _seed(seed, SCALE))
        factor = augment.resize_factor(size, side, data.long_side * side / data.short_sides[0])
    if data.scale_jitter:
        low, high = data.scale_jitter
        drawn = tf.random.stateless_uniform([], _seed(seed, JITTER), low, high)
        factor = tf.cast(factor, tf.float32) * drawn
    if data.crop:
        example = _resize_and_maybe_crop(example, factor, data, _seed(seed, WINDOW))
    else:
        example = RESIZE[data.resize](example, factor)
    if data.color_jitter:
        example = augment.color_jitter(example, data.color_jitter, _seed(seed, COLOR))
    return _finish(example)


def evaluation_dataset(
    folder: str | Path, labels: Labels, data: DataConfig, *, batch_size: int
) -> tf.data.Dataset:
    """Every record once, in order, as `batch` dictionaries; the last batch may be smaller.

    Images have the validation size of `data`. Crowds stay out of the ground truth here too;
    `fcis_tf.evaluation` reads them from the records.

    Raises:
        FcisError: no records.
    """

    def example(index: Tensor, serialized: Tensor) -> Example:
        one = parse(serialized, category_ids=labels.ids, mask_size=mask_side(data))
        one = augment.drop_crowds(one)
        one["seed"] = tf.stack([0, tf.cast(index, tf.int32)])
        one["original_size"] = tf.shape(one["image"])[:2]
        one = augment.limit_instances(one, data.max_instances, one["seed"])
        factor = validation_factor(one["original_size"], data)
        return _finish(RESIZE[data.resize](one, factor))

    records = tf.data.TFRecordDataset([str(file) for file in record_files(folder)])
    examples = records.enumerate().map(example, tf.data.AUTOTUNE, deterministic=True)
    return _pad(examples, batch_size).prefetch(tf.data.AUTOTUNE)


def network_input(
    image: Tensor, data: DataConfig, relative: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """One image as prediction and validation see it.

    Args:
        image: (H0, W0, 3) uint8 RGB.
        data: validation size, and how to resize.
        relative: makes the image so many times as large again.

    Returns:
        (H, W, 3) float32 less the channel means, and () float32 network pixels per original pixel.
    """
    scale = validation_factor(tf.shape(image)[:2], data) * relative
    one = RESIZE[data.resize]({"image": image, "boxes": tf.zeros([0, 4])}, scale)
    return augment.subtract_means(one)["image"], one["scale"]


def validation_factor(size: Tensor, data: DataConfig) -> Tensor:
    """Network pixels per original pixel, () float64, of an image of height and width `size`."""
    if data.validation_factor is not None:
        return tf.constant(data.validation_factor, tf.float64)
    return augment.resize_factor(size, data.validation_short_side, data.validation_long_side)


def mask_side(data: DataConfig) -> int | None:
    """Side of the masks in a batch, M; None with ``resize: released``, which has whole images."""
    return None if data.resize == "released" else data.mask_size


def _turn(example: Example, seed: Tensor) -> Example:
    """Mirror half of the examples up to down, then transpose half of either.

    With mirroring left to right these make all eight rotations and reflections equally likely.
    """
    draws = tf.random.stateless_uniform([2], seed) < 0.5

    def upside_down() -> Example:
        return augment.transpose(augment.flip(augment.transpose(example)))

    mirrored = tf.cond(draws[0], upside_down, lambda: dict(example))
    return tf.cond(draws[1], lambda: augment.transpose(mirrored), lambda: dict(mirrored))


def _resize_and_maybe_crop(
    example: Example, factor: Tensor, data: DataConfig, seed: Tensor
) -> Example:
    full = augment.resized_size(example["original_size"], factor)  # (2,) int32
    window = tf.minimum(full, data.crop)
    # The first row and column are uniform over all places where the window fits.
    room = tf.cast(full - window + 1, tf.float32)
    corner = tf.cast(tf.random.stateless_uniform([2], seed) * room, tf.int32)  # (2,) y, x
    return tf.cond(
        tf.reduce_min(full) >= data.crop_from,
        lambda: augment.resize_and_crop(example, factor, corner, window),
        lambda: augment.resize(example, factor),
    )


def _finish(example: Example) -> Example:
    """Subtract the means, note the size before padding, and keep the keys of a batch."""
    example = augment.subtract_means(example)
    example["image_size"] = tf.cast(tf.shape(example["image"])[:2], tf.float32)
    return {key: example[key] for key in BATCH_KEYS}


def _pad(examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches (B, ...), padded at the lower and right ends to the largest of their examples."""
    padding = {
        key: tf.constant(PADDING.get(key, "" if spec.dtype == tf.string else 0), spec.dtype)
        for key, spec in examples.element_spec.items()
    }
    return examples.padded_batch(batch_size, padding_values=padding)


def _seed(pair: Tensor, choice: int) -> Tensor:
    return tf.random.fold_in(pair, choice)
