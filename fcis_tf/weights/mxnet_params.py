"""Reads MXNet's ``.params`` files without MXNet (format: src/ndarray/ndarray.cc)."""

import math
from pathlib import Path

import numpy as np

from fcis_tf.errors import FcisError

FILE_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA  # any other first word is a number of dimensions
MOST_DIMENSIONS = 32
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}


def read_params(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a file by their names, such as ``arg:conv1_weight`` or ``aux:bn_moving_mean``.

    Each array may be in any of MXNet's three encodings: that of before May 2017, V1, or V2 and V3.

    Raises:
        FcisError: no such file, another format, a sparse array, or a file that ends too early.
    """
    try:
        cursor = _Cursor(path, Path(path).read_bytes())
    except OSError as fault:
        raise FcisError(f"{path}: cannot read the weights: {fault.strerror}") from None
    magic = cursor.number("<u8", "the file header")
    if magic != FILE_MAGIC:
        raise FcisError(
            f"{path}: not an MXNet .params file (expected the header 0x112, found {magic:#x})"
        )
    cursor.number("<u8", "the file header")
    arrays = [_array(cursor, f"array {i}") for i in range(cursor.number("<u8", "the array count"))]
    count = cursor.number("<u8", "the name count")
    if count != len(arrays):
        raise FcisError(f"{path}: expected {len(arrays)} names, one for each array, found {count}")
    names = []
    for i in range(count):
        name = cursor.take(cursor.number("<u8", f"name {i}"), f"name {i}")
        names.append(name.decode("utf-8", "replace"))
    return dict(zip(names, arrays, strict=True))


class _Cursor:
    """Moves through the bytes of a file and never beyond its end."""

    def __init__(self, path: str | Path, content: bytes) -> None:
        self.path, self.content, self.at = path, content, 0

    def take(self, size: int, what: str) -> bytes:
        if size < 0 or size > len(self.content) - self.at:
            raise FcisError(
                f"{self.path}: damaged or cut short: {what} at byte {self.at} needs {size} bytes, "
                f"{len(self.content) - self.at} are left; get the file again"
            )
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, dtype: str, what: str) -> int:
        return int(np.frombuffer(self.take(np.dtype(dtype).itemsize, what), dtype)[0])


def _array(cursor: _Cursor, what: str) -> np.ndarray:
    first = cursor.number("<u4", what)
    if first in (V2, V3) and cursor.number("<i4", what) != 0:
        raise FcisError(f"{cursor.path}: {what} is sparse; expected dense arrays only")
    modern = first in (V1, V2, V3)
    dimensions = cursor.number("<u4", what) if modern else first
    if dimensions > MOST_DIMENSIONS:
        raise FcisError(
            f"{cursor.path}: {what} has {dimensions} dimensions; damaged, or an unknown encoding"
        )
    size = "<i8" if modern else "<u4"
    shape = [cursor.number(size, what) for _ in range(dimensions)]
    if not shape:
        return np.zeros(0, np.float32)
    cursor.take(8, what)  # device type and number
    kind = cursor.number("<i4", what)
    if kind not in DTYPES or min(shape) < 0:
        raise FcisError(f"{cursor.path}: {what} has the type {kind} and shape {shape}; damaged")
    dtype = np.dtype(DTYPES[kind])
    values = cursor.take(math.prod(shape) * dtype.itemsize, what)
    return np.frombuffer(values, dtype).reshape(shape)
