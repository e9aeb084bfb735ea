"""The manifest of a folder of records: what it was made from, and a hash of every shard.

During a conversion every complete shard has a `ShardEntry` in a small file beside it; the last step
gathers them in ``manifest.json``. So a folder with a manifest is complete, and after an
interruption the entries state which shards are.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fcis_tf.data.convert.report import Report
from fcis_tf.errors import FcisError
from fcis_tf.files import file_sha256, write_whole

MANIFEST = "manifest.json"
VERSION = 2  # of the records' schema and of this file


class ShardEntry(NamedTuple):
    """One shard as the manifest lists it."""

    file: str
    fingerprint: str  # of the part of the source it was made from, and how
    sha256: str
    bytes: int
    report: dict[str, Any]  # `Report.to_dict` of its images

    def is_complete(self, folder: Path) -> bool:
        """Whether the file is there with the size it should have."""
        path = folder / self.file
        return path.is_file() and path.stat().st_size == self.bytes


def describe_shard(path: Path, mark: str, report: Report) -> ShardEntry:
    """The entry of a shard that has been written."""
    return ShardEntry(path.name, mark, file_sha256(path), path.stat().st_size, report.to_dict())


def save_entry(folder: Path, entry: ShardEntry) -> None:
    """Write the entry of a complete shard beside it."""
    write_whole(folder / _entry_name(entry.file), json.dumps(entry._asdict()))


def load_entries(folder: Path) -> dict[str, ShardEntry]:
    """The entries of all complete shards of a folder, by file name."""
    # An unfinished conversion has entries beside its shards, a finished one in the manifest, and
    # one that another host has just finished may have both.
    found = []
    for path in folder.glob("*.shard.json"):
        try:
            found.append(json.loads(path.read_text()))
        except FileNotFoundError:  # another host has just gathered it in the manifest
            continue
    manifest = folder / MANIFEST
    if manifest.exists():
        found += json.loads(manifest.read_text())["shards"]
    entries = [ShardEntry(**entry) for entry in found]
    return {entry.file: entry for entry in entries if entry.is_complete(folder)}


def save_manifest(folder: Path, source: dict[str, Any], entries: Sequence[ShardEntry]) -> None:
    """Write ``manifest.json`` and remove the entries beside the shards."""
    content = {
        "version": VERSION,
        "source": source,
        "shards": [entry._asdict() for entry in entries],
    }
    write_whole(folder / MANIFEST, json.dumps(content, indent=1) + "\n")
    for path in folder.glob("*.shard.json"):
        path.unlink(missing_ok=True)


def verify(folder: str | Path, source: dict[str, Any] | None = None) -> int:
    """Compare every shard with the manifest, byte for byte; the number of shards.

    Args:
        folder: of records.
        source: `Source.origin` that it should have been made from; by default it is not compared.

    Raises:
        FcisError: no manifest, another source, or shards that are missing or changed.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.exists():
        raise FcisError(f"{path}: no such file; the conversion is not complete, run it again")
    content = json.loads(path.read_text())
    if source is not None and content["source"] != source:
        differing = sorted(k for k in source if content["source"].get(k) != source[k])
        raise FcisError(
            f"{path}: made from another source ({', '.join(differing)} differ); convert again"
        )
    for entry in (ShardEntry(**row) for row in content["shards"]):
        shard = folder / entry.file
        if not shard.exists():
            raise FcisError(f"{shard}: missing; run the same `fcis convert` again to make it")
        if file_sha256(shard) != entry.sha256:
            raise FcisError(
                f"{shard}: changed since it was written; delete it and run the same "
                "`fcis convert` again to write it"
            )
    return len(content["shards"])


def _entry_name(shard: str) -> str:
    return shard.removesuffix(".tfrecord") + ".shard.json"
