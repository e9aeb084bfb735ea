"""Labelled images to sharded TFRecords, interruptible at any point.

A shard has a temporary name until it is complete; ``manifest.json`` comes last. The same call again
keeps what is complete and was made from the same source, and makes the rest; the bytes do not
depend on interruptions, on the number of processes or on how hosts share the work.
"""

import functools
import json
import math
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tensorflow as tf

from fcis_tf.data.convert import manifest
from fcis_tf.data.convert.manifest import VERSION, ShardEntry
from fcis_tf.data.convert.report import Report
from fcis_tf.data.convert.writing import Shard, write_shards
from fcis_tf.data.records import SHARD
from fcis_tf.data.sources.base import Source
from fcis_tf.data.sources.faults import Reporter
from fcis_tf.data.sources.kinds import check_options, read_source
from fcis_tf.errors import FcisError
from fcis_tf.files import PARTIAL, fingerprint, write_whole

PREFIX = "data"
IMAGES_PER_SHARD = 256


@dataclass(frozen=True)
class Settings:
    """How a conversion is carried out, for labels of any kind; see `convert`.

    Raises:
        FcisError: a number that is out of range.
    """

    shards: int | None = None
    part: tuple[int, int] = (1, 1)
    strict: bool = False
    processes: int | None = None
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        for name in ("shards", "processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FcisError(f"{name}: expected at least 1, found {value}")
        index, parts = self.part
        if not 1 <= index <= parts:
            raise FcisError(f"part: expected i/n with i from 1 to n, found {index}/{parts}")


SETTINGS = tuple(field.name for field in fields(Settings))


def convert(kind: str, source: str | Path, out: str | Path, **options: Any) -> Report:
    """Convert labelled images of any kind to records for training and evaluation.

    Writes ``data-00000-of-000NN.tfrecord``, ``labels.json``, ``report.json`` and ``manifest.json``.
    The same call again continues a conversion that was interrupted::

        convert("labelme", "photos", "records/train")
        convert("coco", "train2017", "records/train", annotations="instances_train2017.json")
        convert("masks", "nuclei", "records/train", single_class="nucleus")
        convert("sbd", "benchmark/dataset", "records/train", list="train")

    Args:
        kind: ``"coco"``, ``"labelme"``, ``"masks"``, ``"sbd"`` or ``"voc"``.
        source: folder of the data set; for ``"coco"`` the folder of the images.
        out: folder to write to; what it holds of another conversion is replaced.
        **options: those of the kind, and those of every conversion.

    Options of a kind:
        annotations (coco): path of the COCO instances json; required.
        labels (labelme, masks): file with the names of the classes, one a line; by default all
            names that occur, in alphabetical order.
        list (labelme, masks, sbd, voc): text file with the names of the images to use; for sbd and
            voc also the name of one of their own lists, such as ``"train"``.
        single_class (masks): the class of all instances; by default the file names state it.

    Options of every conversion:
        shards: number of files; by default one for every 256 images.
        part: (i, n): make every n-th shard, starting with the i-th, i from 1; for several hosts.
        strict: stop at the first fault instead of leaving it out and counting it.
        processes: by default all processors for large data sets and one for small ones. A script
            that converts with several needs ``if __name__ == "__main__"``.
        progress: called with (images done, images in all) of this part.

    Returns:
        What was converted and what was left out, by reason; `print` it. It covers all complete
        shards, those of earlier calls included.

    Raises:
        FcisError: an unknown kind or option, no such data set, no usable image or instance, an
            `out` that holds other records, or no space. What is complete stays, and the same call
            continues from there.
    """
    check_options(kind, options, SETTINGS)
    settings = Settings(**{name: options.pop(name) for name in SETTINGS if name in options})
    read = functools.partial(read_source, kind, source, **options)
    return convert_source(read, Path(out), settings)


def convert_source(
    read: Callable[[Reporter], Source], out: Path, settings: Settings = Settings()
) -> Report:
    """As `convert`, for a data set that `read` lists."""
    report = Report(strict=settings.strict)
    source = read(report.add_fault)
    planned = _plan(source, out, settings.shards)
    index, parts = settings.part
    mine = planned[index - 1 :: parts]
    try:
        complete = _prepare(out, planned, mine)
        source.labels.save(out / "labels.json")
        report.kept = len(complete)
        todo = [shard for shard in mine if shard.path.name not in complete]
        total = sum(len(shard.items) for shard in mine)
        done = total - sum(len(shard.items) for shard in todo)
        written = write_shards(todo, source, strict=settings.strict, processes=settings.processes)
        with closing(written) as results:
            for images in results:
                done += images
                if settings.progress:
                    settings.progress(done, total)
        # Read again: other parts may have gone on meanwhile.
        found = manifest.load_entries(out)
        entries = [
            found[shard.path.name]
            for shard in planned
            if shard.path.name in found and found[shard.path.name].fingerprint == shard.fingerprint
        ]
        for entry in entries:
            report.merge(Report.from_dict(entry.report))
        report.missing = len(planned) - len(entries)
        if not report.missing:
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
            f"{out}: cannot write records: {text}; complete shards stay, run it again to continue"
        ) from None
    return report


def _plan(source: Source, out: Path, shards: int | None) -> list[Shard]:
    """The shards of all parts. A shard is written again if its images change in name or size."""
    items, labels = source.items, source.labels
    made_from = fingerprint(VERSION, source.origin, labels.ids, labels.names)
    count = shards or max(1, math.ceil(len(items) / IMAGES_PER_SHARD))
    # Shards differ by at most one image, and do not depend on how parts share them.
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
    except OSError:  # the reader reports what is wrong with it
        return None


def _prepare(out: Path, planned: list[Shard], mine: list[Shard]) -> dict[str, ShardEntry]:
    """Make the folder and remove what another conversion left there.

    Returns:
        The entries of the shards that are complete, by file name.

    Raises:
        FcisError: the folder holds records that this program did not write.
    """
    out.mkdir(parents=True, exist_ok=True)
    records = list(out.glob("*.tfrecord"))
    foreign = [file for file in records if not _is_ours(file)]
    if foreign or (records and not (out / "labels.json").exists()):
        name = (foreign or records)[0].name
        raise FcisError(f"{out}: holds {name} of another origin; choose an empty folder")
    wanted = {shard.path.name: shard.fingerprint for shard in planned}
    found = manifest.load_entries(out)
    complete = {name: e for name, e in found.items() if wanted.get(name) == e.fingerprint}
    if len(complete) < len(planned):
        # Complete shards stay, so their entries must be kept when the manifest is deleted.
        for entry in complete.values():
            manifest.save_entry(out, entry)
        (out / manifest.MANIFEST).unlink(missing_ok=True)
        (out / "report.json").unlink(missing_ok=True)
    own = {shard.path.name for shard in mine}
    for file in records:
        # A shard of another part may be complete and not have its entry yet.
        if file.name not in complete and (file.name in own or file.name not in wanted):
            file.unlink()
    # What a killed run was writing: shards, their entries and, unless another part may be writing
    # them now, the files about all shards.
    stems = tuple(name.removesuffix("tfrecord") for name in own)
    for file in out.glob(f"*.{PARTIAL}"):
        if file.name.startswith(stems) or len(mine) == len(planned):
            file.unlink()
    for file in out.glob("*.shard.json"):
        if file.name.removesuffix(".shard.json") + ".tfrecord" not in wanted:
            file.unlink()
    return complete


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


def _is_ours(file: Path) -> bool:
    match = SHARD.fullmatch(file.name)
    return match is not None and match[1] == PREFIX
