"""COCO-format data to sharded TFRecords.

``labels.json`` is written first, every shard under a temporary name until it is whole, and
``report.json`` last: a folder with a report is complete.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import tensorflow as tf

from fcis_tf.data.coco import NOTES, Source, load_record, read_coco
from fcis_tf.data.records import SHARD, encode
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels

PREFIX = "data"
IMAGES_PER_SHARD = 256
EXAMPLES = 20  # ids listed for every reason
# Starting a process costs some seconds; fewer images are converted in this one.
PARALLEL_FROM = 2000


@dataclass
class Report:
    """What a conversion found: counts, and by reason what was dropped or changed."""

    images: int = 0
    instances: int = 0
    crowds: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    strict: bool = False

    def tell(self, reason: str, what: str) -> None:
        """Count a fault or a note; stop at the first fault if strict.

        Raises:
            FcisError: strict, and the reason loses data.
        """
        if self.strict and reason not in NOTES:
            raise FcisError(f"{what}: {reason} (--strict stops here)")
        self.reasons[reason] += 1
        listed = self.examples.setdefault(reason, [])
        if len(listed) < EXAMPLES:
            listed.append(what)

    def add(self, other: "Report") -> None:
        self.images += other.images
        self.instances += other.instances
        self.crowds += other.crowds
        self.classes.update(other.classes)
        self.reasons.update(other.reasons)
        for reason, listed in other.examples.items():
            mine = self.examples.setdefault(reason, [])
            mine += listed[: EXAMPLES - len(mine)]

    def to_dict(self) -> dict:
        return {
            "images": self.images,
            "instances": self.instances,
            "crowds": self.crowds,
            "classes": dict(sorted(self.classes.items())),
            "faults": self._listing(lambda reason: reason not in NOTES),
            "notes": self._listing(lambda reason: reason in NOTES),
        }

    def __str__(self) -> str:
        lines = [f"{self.images} images, {self.instances} instances, {self.crowds} crowds"]
        for reason, count in self.reasons.most_common():
            kind = "note " if reason in NOTES else "fault"
            lines.append(f"  {kind} {count:7d}  {reason}; first: {self.examples[reason][0]}")
        return "\n".join(lines)

    def _listing(self, wanted: Callable[[str], bool]) -> dict[str, dict]:
        return {
            reason: {"count": count, "examples": self.examples[reason]}
            for reason, count in sorted(self.reasons.items())
            if wanted(reason)
        }


def convert_coco(
    images: Path,
    annotations: Path,
    out: Path,
    *,
    shards: int | None = None,
    strict: bool = False,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write ``data-00000-of-000NN.tfrecord``, ``labels.json`` and ``report.json`` into `out`.

    The same input gives the same bytes, whatever the number of processes.

    Args:
        images: folder of the image files.
        annotations: COCO instances json.
        out: folder; an earlier conversion in it is replaced.
        shards: number of files; by default one for every 256 images.
        strict: stop at the first fault instead of dropping and counting it.
        processes: by default all processors for large data sets and one for small ones.
        progress: called with (images done, images in all).

    Raises:
        FcisError: unusable input, no usable image or instance, an `out` that holds other records,
            or no space. What was written until then is removed.
    """
    if shards is not None and shards < 1:
        raise FcisError(f"shards: expected at least 1, found {shards}")
    report = Report(strict=strict)
    labels, sources = read_coco(images, annotations, report.tell)
    count = shards or max(1, math.ceil(len(sources) / IMAGES_PER_SHARD))
    parts = [
        sources[n * len(sources) // count : (n + 1) * len(sources) // count] for n in range(count)
    ]
    names = [out / f"{PREFIX}-{n:05d}-of-{count:05d}.tfrecord" for n in range(count)]
    write = partial(_write_shard, labels=labels, strict=strict)
    try:
        _clear(out)
        try:
            _save(out / "labels.json", labels.save)
            done = 0
            with closing(_run(write, parts, names, len(sources), processes)) as reports:
                for written, size in reports:
                    report.add(written)
                    done += size
                    if progress:
                        progress(done, len(sources))
            _check_not_empty(report, annotations, len(sources))
            content = json.dumps(report.to_dict(), indent=1) + "\n"
            _save(out / "report.json", lambda path: path.write_text(content))
        except BaseException:
            _remove(out)
            raise
    except BrokenProcessPool:
        raise FcisError(
            f"{out}: a process of the conversion ended early, killed for lack of memory or started "
            "by a script without `if __name__ == '__main__'`; use processes=1"
        ) from None
    except (OSError, tf.errors.OpError) as fault:
        text = getattr(fault, "strerror", None) or " ".join(str(fault).split())[:160]
        raise FcisError(f"{out}: cannot write records: {text}") from None
    return report


def _check_not_empty(report: Report, annotations: Path, images: int) -> None:
    if report.instances:
        return
    reason = next((r for r, _ in report.reasons.most_common() if r not in NOTES), None)
    why = f"; most often: {reason}, as {report.examples[reason][0]}" if reason else ""
    what = "has a usable instance" if report.images else "is usable"
    raise FcisError(f"{annotations}: none of its {images} images {what}{why}")


def _run(
    write: Callable[[list[Source], Path], Iterator[Report]],
    parts: list[list[Source]],
    names: list[Path],
    images: int,
    processes: int | None,
) -> Generator[tuple[Report, int]]:
    """Reports in the order of the shards, with the number of images each speaks of."""
    processes = processes or (os.cpu_count() or 1 if images >= PARALLEL_FROM else 1)
    if processes == 1 or len(parts) == 1:
        for part, name in zip(parts, names, strict=True):
            for report in write(part, name):
                yield report, 1
        return
    # Spawned, not forked: TensorFlow's threads do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(_all, write, part, name): n
            for n, (part, name) in enumerate(zip(parts, names, strict=True))
        }
        try:
            waiting: dict[int, Report] = {}
            following = 0
            for future in as_completed(futures):
                waiting[futures[future]] = future.result()
                while following in waiting:
                    yield waiting.pop(following), len(parts[following])
                    following += 1
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _all(
    write: Callable[[list[Source], Path], Iterator[Report]], part: list[Source], name: Path
) -> Report:
    total = Report()
    for report in write(part, name):
        total.add(report)
    return total


def _write_shard(
    sources: list[Source], path: Path, *, labels: Labels, strict: bool
) -> Iterator[Report]:
    """Write one shard; yields a report for every image looked at."""
    temporary = path.with_suffix(".partial")
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for source in sources:
                report = Report(strict=strict)
                record = load_record(source, labels, report.tell)
                if record is not None:
                    writer.write(encode(record))
                    report.images = 1
                    report.instances = len(record.instances)
                    report.crowds = sum(i.crowd for i in record.instances)
                    report.classes.update(i.name for i in record.instances)
                yield report
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _clear(out: Path) -> None:
    """Make the folder and remove an earlier conversion from it, but nobody else's records."""
    out.mkdir(parents=True, exist_ok=True)
    found = list(out.glob("*.tfrecord"))
    foreign = [f for f in found if not _is_ours(f)]
    if foreign or (found and not (out / "labels.json").exists()):
        name = (foreign or found)[0].name
        raise FcisError(f"{out}: holds {name} of another origin; choose an empty folder")
    _remove(out)


def _remove(out: Path) -> None:
    """Remove a conversion, whole or not. The labels stay: they mark the folder as ours."""
    (out / "report.json").unlink(missing_ok=True)
    for file in [*filter(_is_ours, out.glob("*.tfrecord")), *out.glob("*.partial")]:
        file.unlink()


def _is_ours(file: Path) -> bool:
    match = SHARD.fullmatch(file.name)
    return match is not None and match[1] == PREFIX


def _save(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_suffix(".partial")
    write(temporary)
    os.replace(temporary, path)
