"""Which record comes when: epochs, shuffling, aspect grouping, and a start in the middle.

The order is a function of the seed and the number of the epoch alone. Epochs follow one another
without a seam: a step that one leaves unfilled is filled by the next.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from fcis_tf.data.decode import decode_image
from fcis_tf.errors import FcisError
from fcis_tf.structures import Tensor

Header = dict[str, Tensor]  # usable, landscape: () bool


def draws(
    files: Sequence[Path],
    *,
    step_size: int,
    seed: int,
    start: int = 0,
    group_by_aspect: bool = True,
    shuffle_buffer: int = 1024,
    cached: Callable[[Tensor], dict[str, Tensor]] | None = None,
) -> tf.data.Dataset:
    """Endless (number of the draw () int64, content); each `step_size` in a row make a step.

    Args:
        files: of records.
        step_size: images of one update.
        seed: of the order.
        start: begin with this step. Epochs before it are not read, but for the one or two that
            left their last images to it.
        group_by_aspect: landscape and portrait images do not share a step.
        shuffle_buffer: records shuffled at a time.
        cached: makes the content of a record, which is then kept in memory; without it the content
            is the record, () string.

    Raises:
        FcisError: no record has an instance that is not a crowd.
    """
    names = [str(file) for file in files]

    def read(paths: tf.data.Dataset) -> tf.data.Dataset:
        records = paths.interleave(tf.data.TFRecordDataset, cycle_length=8)
        return records.map(with_header).filter(lambda header, _: header["usable"])

    paths = tf.data.Dataset.from_tensor_slices(names)
    if next(iter(read(paths).take(1)), None) is None:
        raise FcisError(
            f"{files[0].parent}: no image with an instance that is not a crowd; nothing to train on"
        )
    kept = None
    if cached:
        kept = read(paths).map(lambda header, record: (header, cached(record)), tf.data.AUTOTUNE)
        kept = kept.cache()

    def epoch(number: Tensor) -> tf.data.Dataset:
        if kept is not None:
            return _shuffle(kept, shuffle_buffer, seed, number)
        order = _shuffle(paths, len(names), seed, number)
        return _shuffle(read(order), shuffle_buffer, seed, number)

    group = group_by_aspect and step_size > 1
    first, spare, skipped = 0, [0, 0], start
    if start:
        counts = _count(read(paths) if kept is None else kept, group)
        first, spare, skipped = _begin(start, counts, step_size)
    stream = tf.data.Dataset.range(first, tf.int64.max).flat_map(epoch)
    if any(spare):
        stream = _drop(stream, spare, group)
    if group:
        stream = stream.group_by_window(
            lambda header, _: tf.cast(header["landscape"], tf.int64),
            lambda key, window: window,
            step_size,
        )
    stream = stream.skip(skipped * step_size).map(lambda header, content: content)
    return stream.enumerate(start * step_size)


def with_header(serialized: Tensor) -> tuple[Header, Tensor]:
    """What grouping and filtering need, without decoding the image."""
    raw = tf.io.parse_single_example(
        serialized,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/height": tf.io.FixedLenFeature([], tf.int64, -1),
            "image/width": tf.io.FixedLenFeature([], tf.int64, -1),
            "image/object/class/label": tf.io.VarLenFeature(tf.int64),
            "image/object/is_crowd": tf.io.VarLenFeature(tf.int64),
        },
    )
    known = tf.stack([raw["image/height"], raw["image/width"]])
    size = tf.cond(
        tf.reduce_all(known > 0),
        lambda: known,
        lambda: tf.shape(decode_image(raw["image/encoded"]), tf.int64)[:2],
    )
    crowds = tf.reduce_sum(raw["image/object/is_crowd"].values)
    instances = tf.size(raw["image/object/class/label"].values, tf.int64)
    return {"landscape": size[1] >= size[0], "usable": instances > crowds}, serialized


def _shuffle(dataset: tf.data.Dataset, buffer: int, seed: int, number: Tensor) -> tf.data.Dataset:
    """`Dataset.shuffle`, but for a seed pair; that one also depends on TensorFlow's global seed."""
    specs = tf.nest.flatten(dataset.element_spec)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=buffer,
        seed=seed,
        seed2=number + 1,  # two zeros would mean any seed
        reshuffle_each_iteration=False,
        output_types=[spec.dtype for spec in specs],
        output_shapes=[spec.shape for spec in specs],
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def _count(records: tf.data.Dataset, group: bool) -> list[int]:
    """Records of an epoch in each group: portrait and landscape, or all and none."""

    def add(counts: Tensor, row: tuple[Header, Tensor]) -> Tensor:
        return counts + tf.one_hot(_group(row[0], group), 2, dtype=tf.int64)

    return records.reduce(tf.zeros([2], tf.int64), add).numpy().tolist()


def _group(header: Header, group: bool) -> Tensor:
    return tf.cast(header["landscape"], tf.int64) if group else tf.zeros([], tf.int64)


def _begin(start: int, counts: Sequence[int], step: int) -> tuple[int, list[int], int]:
    """Where reading begins for the step with number `start`.

    A group's steps are `step` records in a row of its own endless stream. Every step that has
    records of an epoch before the one that is returned is complete before step `start`.

    Args:
        start: number of a step.
        counts: records of an epoch, by group.
        step: records of a step.

    Returns:
        The first epoch to read, how many of its first records of each group belong to steps that
        began before it, and how many whole steps after these come before `start`.
    """
    present = [int(count) for count in counts if count]

    def complete(epochs: int) -> int:
        """Steps that are full when so many epochs are over."""
        return sum(epochs * count // step for count in present)

    reached = start * step // sum(present)
    while complete(reached) > start:
        reached -= 1
    # So many epochs fill any step that was begun.
    first = max(0, reached - -(-step // min(present)))
    spare = [int(-first * count % step) if count else 0 for count in counts]
    begun = sum(-(-first * count // step) for count in present)
    return first, spare, start - begun


def _drop(stream: tf.data.Dataset, spare: Sequence[int], group: bool) -> tf.data.Dataset:
    """Leave out the first records of each group."""

    def see(seen: Tensor, row: tuple[Header, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        kind = _group(row[0], group)
        keep = seen[kind] >= tf.constant(list(spare), tf.int64)[kind]
        return seen + tf.one_hot(kind, 2, dtype=tf.int64), (keep, *row)

    marked = stream.scan(tf.zeros([2], tf.int64), see)
    return marked.filter(lambda keep, *row: keep).map(lambda keep, *row: row)
