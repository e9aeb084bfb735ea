"""Which record comes when: epochs, shuffling, aspect grouping, and a start in the middle.

The order is a function of the seed and the number of the epoch alone, so that an interrupted run
continues with the images that it would have seen. Epochs follow one another without a seam: a step
that one epoch leaves unfilled is filled by the next.

With aspect grouping, portrait and landscape records form two endless streams, and a step takes
`step_size` records in a row from one of them. Here 3 portrait and 5 landscape records make steps
of 4; the digits number the steps of each group::

    epoch        0            1            2
    portrait     0 0 0        0 1 1        1 1 2
    landscape    0 0 0 0 1    1 1 1 2 2    2 2 3 3 3

Steps are numbered in the order in which they become full. After e epochs a group of c records has
filled ``e * c // step_size`` steps and begun one more if any are left over, whatever the order of
the records inside the epochs. So a start in the middle needs the counts c alone: `_begin` finds an
epoch from which to read, `_drop` leaves out its first records, which fill steps begun before (two
of each group, where reading begins with epoch 2), and whole steps are skipped up to the start.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from fcis_tf.config import DataConfig
from fcis_tf.data.decode import decode_image
from fcis_tf.errors import FcisError
from fcis_tf.structures import Tensor

Header = dict[str, Tensor]  # usable, landscape: () bool


def draws(
    files: Sequence[Path],
    data: DataConfig,
    *,
    step_size: int,
    seed: int,
    start: int = 0,
    cached: Callable[[Tensor], dict[str, Tensor]] | None = None,
) -> tf.data.Dataset:
    """Endless (number of the draw () int64, content); each `step_size` in a row make a step.

    Args:
        files: of records.
        data: ``aspect_grouping``, and ``shuffle_buffer``, the records shuffled at a time.
        step_size: images of one update.
        seed: of the order.
        start: begin with this step. Earlier epochs are not read, but for those that left their last
            images to it.
        cached: makes the content of a record, which is then kept in memory; without it the content
            is the record, () string.

    Raises:
        FcisError: no record has an instance that is not a crowd.
    """
    names = [str(file) for file in files]
    buffer = data.shuffle_buffer

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
        # One epoch in memory, in the order of the files; every epoch shuffles it anew.
        kept = read(paths).map(lambda header, record: (header, cached(record)), tf.data.AUTOTUNE)
        kept = kept.cache()

    def epoch(number: Tensor) -> tf.data.Dataset:
        if kept is not None:
            return _shuffle(kept, buffer, seed, number)
        # Files first: a buffer smaller than the data set shuffles only its neighbourhood.
        order = _shuffle(paths, len(names), seed, number)
        return _shuffle(read(order), buffer, seed, number)

    group = data.aspect_grouping and step_size > 1
    first, spare, skipped = 0, [0, 0], start
    if start:
        counts = _count(read(paths) if kept is None else kept, group)
        first, spare, skipped = _begin(start, counts, step_size)
    stream = tf.data.Dataset.range(first, tf.int64.max).flat_map(epoch)
    if any(spare):
        stream = _drop(stream, spare, group)
    if group:
        # A window of one key is emitted when it is full, as one step in a row.
        stream = stream.group_by_window(
            lambda header, _: tf.cast(header["landscape"], tf.int64),
            lambda key, window: window,
            step_size,
        )
    stream = stream.skip(skipped * step_size).map(lambda header, content: content)
    return stream.enumerate(start * step_size)


def with_header(serialized: Tensor) -> tuple[Header, Tensor]:
    """A record with what grouping and filtering need, without decoding the image if possible.

    Args:
        serialized: () string.
    """
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
    # Converters that do not know the size leave it out or write -1.
    known = tf.stack([raw["image/height"], raw["image/width"]])  # (2,)
    size = tf.cond(
        tf.reduce_all(known > 0),
        lambda: known,
        lambda: tf.shape(decode_image(raw["image/encoded"]), tf.int64)[:2],
    )
    crowds = tf.reduce_sum(raw["image/object/is_crowd"].values)
    instances = tf.size(raw["image/object/class/label"].values, tf.int64)
    return {"landscape": size[1] >= size[0], "usable": instances > crowds}, serialized


def _shuffle(dataset: tf.data.Dataset, buffer: int, seed: int, number: Tensor) -> tf.data.Dataset:
    """`Dataset.shuffle` with a seed for every epoch, which may be a tensor.

    `Dataset.shuffle` itself mixes TensorFlow's global seed into the one it is given.
    """
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
    """Records of an epoch in each group: [portrait, landscape], or [all, 0] without groups."""

    def add(counts: Tensor, row: tuple[Header, Tensor]) -> Tensor:
        return counts + tf.one_hot(_group(row[0], group), 2, dtype=tf.int64)

    return records.reduce(tf.zeros([2], tf.int64), add).numpy().tolist()


def _group(header: Header, group: bool) -> Tensor:
    """Number of a record's group, () int64: 1 for landscape, 0 for portrait and without groups."""
    return tf.cast(header["landscape"], tf.int64) if group else tf.zeros([], tf.int64)


def _begin(start: int, counts: Sequence[int], step: int) -> tuple[int, list[int], int]:
    """Where reading begins for the step with number `start`; see the head of this file.

    Args:
        start: number of a step.
        counts: records of an epoch, by group.
        step: records of a step.

    Returns:
        The first epoch to read, how many of its first records of each group belong to steps that
        began before it, and how many whole steps after these come before `start`.
    """
    present = [int(count) for count in counts if count]

    # So many epochs have at most start * step records and fill at most `start` steps.
    reached = start * step // sum(present)
    # Go back so many epochs that even the smallest group fills a whole step in them. Then every
    # step begun before epoch `first` is full when `reached` are over, so it comes before `start`.
    first = max(0, reached - -(-step // min(present)))  # -(-a // b) rounds a / b up
    # Of each group, first * count records come before; the last step they began lacks this many.
    spare = [int(-first * count % step) if count else 0 for count in counts]
    begun = sum(-(-first * count // step) for count in present)
    return first, spare, start - begun


def _drop(stream: tf.data.Dataset, spare: Sequence[int], group: bool) -> tf.data.Dataset:
    """Leave out the first ``spare[g]`` records of each group g."""

    def mark(seen: Tensor, row: tuple[Header, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`seen` (2,) counts the records of each group so far."""
        kind = _group(row[0], group)
        keep = seen[kind] >= tf.constant(list(spare), tf.int64)[kind]
        return seen + tf.one_hot(kind, 2, dtype=tf.int64), (keep, *row)

    marked = stream.scan(tf.zeros([2], tf.int64), mark)
    return marked.filter(lambda keep, *row: keep).map(lambda keep, *row: row)
