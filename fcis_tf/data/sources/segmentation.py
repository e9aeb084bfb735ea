"""COCO's ways to write a mask: polygons, run lengths, compressed run lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

# Polygons that reach farther than so many image sizes are damage; pycocotools walks every pixel of
# an outline and crashes on far ones.
FARTHEST = 10
BATCH = 256  # compressed masks that are checked at a time: some 100,000 characters
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


def first_damaged(masks: Sequence[dict[str, Any]]) -> int | None:
    """The place of the first compressed RLE whose runs do not fill its size exactly, if any.

    pycocotools reads such text without a check, and beyond its end.

    Args:
        masks: RLE with ``size`` [height, width] and ``counts`` as text.
    """
    for begin in range(0, len(masks), BATCH):
        batch = masks[begin : begin + BATCH]
        pixels = [mask["size"][0] * mask["size"][1] for mask in batch]
        try:
            runs, starts = _decompress([mask["counts"] for mask in batch])
            sound = (runs >= 0).all() and (np.add.reduceat(runs, starts) == pixels).all()
        except ValueError:
            sound = False
        if not sound:
            faults = (n for n, mask in enumerate(batch) if _runs(mask, *mask["size"]) is None)
            return begin + next(faults)
    return None


def _runs(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """Run lengths (R,) int64 of an image, column by column, the first one background."""
    try:
        if isinstance(segmentation, dict):
            if list(segmentation["size"]) != [height, width]:
                return None
            counts = segmentation["counts"]
            if not isinstance(counts, str) and not all(isinstance(run, int) for run in counts):
                return None
            text = isinstance(counts, str)
            runs = _decompress([counts])[0] if text else np.array(counts, np.int64)
            # pycocotools fills what short runs leave open with whatever was in memory.
            return None if (runs < 0).any() or runs.sum() != height * width else runs
        parts = [np.array(part, np.float64) for part in segmentation]
        limit = FARTHEST * max(height, width)
        if not parts or any(p.ndim != 1 or len(p) < 6 or len(p) % 2 for p in parts):
            return None
        if not all((np.abs(p) <= limit).all() for p in parts):  # NaN fails too
            return None
        merged = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        return _decompress([merged["counts"].decode()])[0]
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


def _decompress(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of COCO's compressed RLE, and where those of each text start.

    A number is a string of digits of base 32, lowest first, each the character 48 + digit, plus 32
    if more digits follow; bit 4 of the last is the sign. From the fourth on, it is the difference
    to the run before the last (pycocotools' ``rleToString``).

    Returns:
        (R,) int64 runs of all texts one after another, and (T,) int64 places of the first ones.

    Raises:
        ValueError: one of the texts is none.
    """
    codes = np.frombuffer("".join(texts).encode("ascii"), np.uint8).astype(np.int64) - 48
    lengths = np.array([len(text) for text in texts])
    last = codes < 32
    if not lengths.all() or not last[lengths.cumsum() - 1].all():
        raise ValueError("not a compressed RLE")
    if codes.min() < 0 or codes.max() >= 64:
        raise ValueError("not a compressed RLE")
    ends = np.flatnonzero(last) + 1  # (R,)
    digits = np.diff(ends, prepend=0)
    if digits.max() > MOST_DIGITS:
        raise ValueError("a run of a compressed RLE is too long")
    # Join the digits of each number, lowest first, then apply its sign.
    firsts = ends - digits
    shifts = 5 * (np.arange(len(codes)) - np.repeat(firsts, digits))
    runs = np.add.reduceat((codes & 31) << shifts, firsts)  # (R,)
    runs -= ((codes[last] & 16) > 0).astype(np.int64) << (5 * digits)
    if len(texts) == 1:  # as below, in a fifth of the time
        for first in (1, 2):
            runs[first::2] = runs[first::2].cumsum()
        return runs, np.zeros(1, np.int64)
    counts = np.add.reduceat(last, lengths.cumsum() - lengths, dtype=np.int64)  # (T,)
    starts = counts.cumsum() - counts
    # From the fourth on, numbers are differences to the one before the last: two running sums.
    place = np.arange(len(runs)) - np.repeat(starts, counts)  # (R,) within the text
    for first in (1, 2):
        chain = np.flatnonzero((place >= first) & (place % 2 == first % 2))
        sums = runs[chain].cumsum()
        heads = np.flatnonzero(place[chain] == first)  # a sum starts anew with each text
        before = (sums - runs[chain])[heads]
        runs[chain] = sums - np.repeat(before, np.diff(heads, append=len(chain)))
    return runs, starts
