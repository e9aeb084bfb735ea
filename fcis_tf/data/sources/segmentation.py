"""COCO's ways to write a mask: polygons, run lengths, compressed run lengths."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

# Polygons that reach farther than so many image sizes are damage; pycocotools walks every pixel of
# an outline and crashes on far ones.
FARTHEST = 10
MOST_DIGITS = 7  # of a number in a compressed RLE, more than any image has pixels


def rasterise(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """A (height, width) uint8 mask from polygons or RLE; None if it is neither."""
    runs = _runs(segmentation, height, width)
    return None if runs is None else _fill(runs, height, width)


def to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any] | None:
    """Compressed RLE, its counts as text, of polygons or RLE of a whole image; None if neither."""
    runs = _runs(segmentation, height, width)
    if runs is None:
        return None
    rle = {"size": [height, width], "counts": runs.tolist()}
    return rle | {"counts": coco_mask.frPyObjects(rle, height, width)["counts"].decode()}


def _runs(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """Run lengths (R,) int64 of an image, column by column, the first one background."""
    try:
        if isinstance(segmentation, dict):
            if list(segmentation["size"]) != [height, width]:
                return None
            counts = segmentation["counts"]
            if not isinstance(counts, str) and not all(isinstance(run, int) for run in counts):
                return None
            runs = _decompress(counts) if isinstance(counts, str) else np.array(counts, np.int64)
            # pycocotools fills what short runs leave open with whatever was in memory.
            return None if (runs < 0).any() or runs.sum() != height * width else runs
        parts = [np.array(part, np.float64) for part in segmentation]
        limit = FARTHEST * max(height, width)
        if not parts or any(p.ndim != 1 or len(p) < 6 or len(p) % 2 for p in parts):
            return None
        if not all((np.abs(p) <= limit).all() for p in parts):  # NaN fails too
            return None
        merged = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        return _decompress(merged["counts"].decode())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _fill(runs: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask (height, width) uint8 of run lengths, column by column, the first one background.

    Only what lies between the first and the last foreground pixels is expanded and transposed; for
    the whole image it takes several times as long.
    """
    mask = np.zeros((height, width), np.uint8)
    # First and last pixel (F,) of the foreground runs, counted column by column.
    ends = np.cumsum(runs)
    last = ends[1::2] - 1
    first = ends[: 2 * len(last) : 2]
    if not len(last):
        return mask
    # Cut the background before the first and after the last column with foreground.
    left, right = first[0] // height, last[-1] // height + 1
    lengths = runs.copy()
    lengths[0] -= left * height
    if len(runs) % 2:
        lengths[-1] -= (width - right) * height
    values = np.arange(len(runs)).astype(np.uint8) & 1
    columns = np.repeat(values, lengths).reshape(-1, height)  # (right - left, height)
    top, bottom = 0, height
    if (first // height == last // height).all():  # no run goes on in the next column
        top, bottom = (first % height).min(), (last % height).max() + 1
    mask[top:bottom, left:right] = columns[:, top:bottom].T
    return mask


def _decompress(text: str) -> np.ndarray:
    """Run lengths (R,) int64 of COCO's compressed RLE.

    A number is a string of digits of base 32, lowest first, each the character 48 + digit, plus 32
    if more digits follow; bit 4 of the last is the sign. From the fourth on, it is the difference
    to the run before the last (pycocotools' ``rleToString``).

    Raises:
        ValueError: no such text.
    """
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    last = codes < 32
    if not len(codes) or not last[-1] or codes.min() < 0 or codes.max() >= 64:
        raise ValueError("not a compressed RLE")
    ends = np.flatnonzero(last) + 1
    digits = np.diff(ends, prepend=0)
    if digits.max() > MOST_DIGITS:
        raise ValueError("a run of a compressed RLE is too long")
    # Join the digits of each number, lowest first, then apply its sign.
    starts = ends - digits
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, digits))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= ((codes[last] & 16) > 0).astype(np.int64) << (5 * digits)
    # From the fourth on, numbers are differences to the one before the last: two running sums.
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs
