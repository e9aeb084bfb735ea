"""Shards of records, written in this process or in several."""

import functools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from fcis_tf.data.convert import manifest
from fcis_tf.data.convert.report import Report
from fcis_tf.data.records import encode
from fcis_tf.data.sources.base import Item, Source
from fcis_tf.files import partial_name, replace

# Starting a process costs some seconds; fewer images are converted in this one.
PARALLEL_FROM = 2000


class Shard(NamedTuple):
    """One file to write."""

    path: Path
    items: list[Item]
    fingerprint: str


def write_shards(
    shards: Sequence[Shard], source: Source, *, strict: bool, processes: int | None
) -> Generator[int]:
    """Write shards, each with its manifest entry beside it; yields numbers of images done.

    Args:
        shards: what to write.
        source: reads the images of the shards.
        strict: stop at the first fault.
        processes: by default all processors for large data sets and one for small ones.
    """
    # Processes get the items of one shard at a time, not all.
    write = functools.partial(_write_shard, source=source._replace(items=()), strict=strict)
    images = sum(len(shard.items) for shard in shards)
    processes = processes or (os.cpu_count() or 1 if images >= PARALLEL_FROM else 1)
    if processes == 1 or len(shards) <= 1:
        for shard in shards:
            yield from write(shard)
        return
    # Spawned, not forked: TensorFlow's threads do not survive a fork.
    context = get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)
    ) as pool:
        futures = [pool.submit(_all, write, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_shard(shard: Shard, *, source: Source, strict: bool) -> Iterator[int]:
    """Write one shard and then its entry; yields 1 for every image."""
    partial = partial_name(shard.path)
    report = Report(strict=strict)
    try:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for item in shard.items:
                record = source.load(item, source.labels, report.add_fault)
                if record is not None:
                    writer.write(encode(record))
                    report.images += 1
                    report.instances += len(record.instances)
                    report.crowds += sum(i.crowd for i in record.instances)
                    report.classes.update(i.name for i in record.instances)
                yield 1
        replace(partial, shard.path)
    finally:
        partial.unlink(missing_ok=True)
    # Last, because a shard without an entry counts as incomplete and is written again.
    entry = manifest.describe_shard(shard.path, shard.fingerprint, report)
    manifest.save_entry(shard.path.parent, entry)


def _all(write: Callable[[Shard], Iterator[int]], shard: Shard) -> int:
    return sum(write(shard))


def _end_with(parent: int) -> None:
    """End this process soon after its parent, also when that is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
