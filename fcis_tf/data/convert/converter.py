"""Labelled images to sharded TFRecords, interruptible at any point.

A shard has a temporary name until it is whole; ``manifest.json`` comes last. The same command run
again keeps what is whole and was made from the same source, and makes the rest; the bytes do not
depend on interruptions, on the number of processes or on how hosts share the work.
"""

import functools
import json
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from fcis_tf.data.convert import manifest
from fcis_tf.data.convert.manifest import VERSION, ShardEntry, describe_shard
from fcis_tf.data.convert.report import Report
from fcis_tf.data.records import SHARD, encode
from fcis_tf.data.sources.base import Item, Reader, Source
from fcis_tf.data.sources.coco import read_coco
from fcis_tf.errors import FcisError
from fcis_tf.files import PARTIAL, fingerprint, partial_name, replace, write_whole

PREFIX = "data"
IMAGES_PER_SHARD = 256
# Starting a process costs some seconds; fewer images are converted in this one.
PARALLEL_FROM = 2000


class Conversion(NamedTuple):
    """What a call of `convert` has done."""

    report: Report  # of all shards that are whole, those of earlier calls included
    kept: int  # shards that were whole already
    missing: int  # shards that other parts still have to make


class Shard(NamedTuple):
    """One file to write."""

    path: Path
    items: list[Item]
    fingerprint: str


def convert_coco(images: Path, annotations: Path, out: Path, **options: Any) -> Conversion:
    """Convert a COCO instances json and the folder of its image files; see `convert`.

    Args:
        images: folder of the image files.
        annotations: COCO instances json.
        out: folder to write to.
        options: see `convert`.
    """
    return convert(functools.partial(read_coco, images, annotations), out, **options)


def convert(
    read: Reader,
    out: Path,
    *,
    shards: int | None = None,
    part: tuple[int, int] = (1, 1),
    strict: bool = False,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write ``data-00000-of-000NN.tfrecord``, ``labels.json``, ``report.json``, ``manifest.json``.

    Args:
        read: lists the data set.
        out: folder; what it holds of another conversion is replaced.
        shards: number of files; by default one for every 256 images.
        part: (i, n): make every n-th shard, starting with the i-th, i from 1.
        strict: stop at the first fault instead of dropping and counting it.
        processes: by default all processors for large data sets and one for small ones.
        progress: called with (images done, images in all) of this part.

    Raises:
        FcisError: no usable image or instance, an `out` that holds other records, or no space. What
            is whole stays, and the same call goes on from there.
    """
    if shards is not None and shards < 1:
        raise FcisError(f"shards: expected at least 1, found {shards}")
    index, parts = part
    if not 1 <= index <= parts:
        raise FcisError(f"part: expected i/n with i from 1 to n, found {index}/{parts}")
    report = Report(strict=strict)
    source = read(report.add_fault)
    planned = _plan(source, out, shards)
    mine = planned[index - 1 :: parts]
    # Processes get the items of one shard at a time, not all.
    write = functools.partial(_write_shard, source=source._replace(items=()), strict=strict)
    try:
        whole = _prepare(out, planned, mine)
        source.labels.save(out / "labels.json")
        kept = len(whole)
        todo = [shard for shard in mine if shard.path.name not in whole]
        total = sum(len(shard.items) for shard in mine)
        done = total - sum(len(shard.items) for shard in todo)
        with closing(_run(write, todo, processes)) as results:
            for images in results:
                done += images
                if progress:
                    progress(done, total)
        # Read anew: other parts may have gone on meanwhile.
        found = manifest.load_entries(out)
        entries = [
            found[shard.path.name]
            for shard in planned
            if shard.path.name in found and found[shard.path.name].fingerprint == shard.fingerprint
        ]
        for entry in entries:
            report.merge(Report.from_dict(entry.report))
        missing = len(planned) - len(entries)
        if not missing:
            _check_not_empty(report, source)
            _finish(out, source, entries, report)
    except BrokenProcessPool:
        raise FcisError(
            f"{out}: a process of the conversion ended early, killed for lack of memory or started "
            "by a script without `if __name__ == '__main__'`; run it again with processes=1"
        ) from None
    except (OSError, tf.errors.OpError) as fault:
        text = getattr(fault, "strerror", None) or " ".join(str(fault).split())[:160]
        raise FcisError(
            f"{out}: cannot write records: {text}; whole shards stay, run it again to continue"
        ) from None
    return Conversion(report, kept, missing)


def _plan(source: Source, out: Path, shards: int | None) -> list[Shard]:
    """The shards of all parts. A shard is made anew if its images change in name or size."""
    items, labels = source.items, source.labels
    made_from = fingerprint(VERSION, source.origin, labels.ids, labels.names)
    count = shards or max(1, math.ceil(len(items) / IMAGES_PER_SHARD))
    planned = []
    for n in range(count):
        part = list(items[n * len(items) // count : (n + 1) * len(items) // count])
        files = [(item.path.name, _size(item.path)) for item in part]
        name = f"{PREFIX}-{n:05d}-of-{count:05d}.tfrecord"
        planned.append(Shard(out / name, part, fingerprint(made_from, files)))
    return planned


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # the reader says what is wrong with it
        return None


def _prepare(out: Path, planned: list[Shard], mine: list[Shard]) -> dict[str, ShardEntry]:
    """Make the folder, remove what another conversion left there; the shards that are whole.

    Raises:
        FcisError: the folder holds somebody else's records.
    """
    out.mkdir(parents=True, exist_ok=True)
    records = list(out.glob("*.tfrecord"))
    foreign = [file for file in records if not _is_ours(file)]
    if foreign or (records and not (out / "labels.json").exists()):
        name = (foreign or records)[0].name
        raise FcisError(f"{out}: holds {name} of another origin; choose an empty folder")
    wanted = {shard.path.name: shard.fingerprint for shard in planned}
    found = manifest.load_entries(out)
    whole = {name: e for name, e in found.items() if wanted.get(name) == e.fingerprint}
    if len(whole) < len(planned):
        # What the manifest says of whole shards must outlive it.
        for entry in whole.values():
            manifest.save_entry(out, entry)
        (out / manifest.MANIFEST).unlink(missing_ok=True)
        (out / "report.json").unlink(missing_ok=True)
    own = {shard.path.name for shard in mine}
    for file in records:
        # A shard that another part is about to describe is left alone.
        if file.name not in whole and (file.name in own or file.name not in wanted):
            file.unlink()
    # What a killed run was writing: shards, their entries and, if no other part may be at it, the
    # files about all shards.
    stems = tuple(name.removesuffix("tfrecord") for name in own)
    for file in out.glob(f"*.{PARTIAL}"):
        if file.name.startswith(stems) or len(mine) == len(planned):
            file.unlink()
    for file in out.glob("*.shard.json"):
        if file.name.removesuffix(".shard.json") + ".tfrecord" not in wanted:
            file.unlink()
    return whole


def _finish(out: Path, source: Source, entries: list[ShardEntry], report: Report) -> None:
    write_whole(out / "report.json", json.dumps(report.to_dict(), indent=1) + "\n")
    manifest.save_manifest(out, source.origin, entries)


def _check_not_empty(report: Report, source: Source) -> None:
    if report.instances:
        return
    reason = next(iter(report.faults), None)
    why = f"; most often: {reason}, as {report.examples[reason][0]}" if reason else ""
    what = "has a usable instance" if report.images else "is usable"
    raise FcisError(f"{source.origin['name']}: none of its {len(source.items)} images {what}{why}")


def _run(
    write: Callable[[Shard], Iterator[int]], shards: list[Shard], processes: int | None
) -> Generator[int]:
    """Write the shards; yields numbers of images done."""
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


def _all(write: Callable[[Shard], Iterator[int]], shard: Shard) -> int:
    return sum(write(shard))


def _end_with(parent: int) -> None:
    """End this process soon after its parent, also when that is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
    # A shard without an entry is made anew.
    manifest.save_entry(shard.path.parent, describe_shard(shard.path, shard.fingerprint, report))


def _is_ours(file: Path) -> bool:
    match = SHARD.fullmatch(file.name)
    return match is not None and match[1] == PREFIX
