"""Files that appear only when they are complete, and hashes of files and values."""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

PARTIAL = "partial"


def partial_name(path: Path) -> Path:
    """A name beside `path` that no other process or host takes, to write it under first."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.{PARTIAL}")


def write_whole(path: Path, text: str) -> None:
    """Write a text file; under its name there is never a part of it, even if power fails."""
    partial = partial_name(path)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
        replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """Write JSON, on one line with `indent` None; the file appears only when it is whole."""
    write_whole(path, json.dumps(content, indent=indent) + "\n")


def replace(partial: Path, path: Path) -> None:
    """Give a written file its name, once its bytes are on the disk."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """The sha256, in hexadecimal, of values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
