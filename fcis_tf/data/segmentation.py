"""COCO's ways to write a mask: polygons, run lengths, compressed run lengths."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

# Polygons that reach farther than so many image sizes are damage; pycocotools walks every pixel of
# an outline and crashes on far ones.
FARTHEST = 10


def rasterise(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """A (height, width) uint8 mask from polygons or RLE; None if it is neither."""
    rle = to_rle(segmentation, height, width)
    return None if rle is None else coco_mask.decode(rle)


def to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any] | None:
    """Compressed RLE, its counts as text, of polygons or RLE of a whole image; None if neither."""
    try:
        if isinstance(segmentation, dict):
            if list(segmentation["size"]) != [height, width]:
                return None
            runs = segmentation["counts"]
            if isinstance(runs, str):
                runs = _decompress(runs)
            # pycocotools fills what short runs leave open with whatever was in memory.
            whole = all(isinstance(run, int) and run >= 0 for run in runs)
            if not whole or sum(runs) != height * width:
                return None
            rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        else:
            parts = [[float(v) for v in part] for part in segmentation]
            limit = FARTHEST * max(height, width)
            if not parts or any(len(p) < 6 or len(p) % 2 for p in parts):
                return None
            if not all(abs(v) <= limit for p in parts for v in p):  # NaN fails too
                return None
            rle = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        return {"size": [height, width], "counts": rle["counts"].decode()}
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _decompress(text: str) -> list[int]:
    """Run lengths of COCO's compressed RLE.

    A number is a string of digits of base 32, lowest first, each the character 48 + digit, plus 32
    if more digits follow; bit 4 of the last is the sign. From the fourth on, it is the difference
    to the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{character!r} is no digit of a compressed RLE")
        value |= (code & 31) << shift
        shift += 5
        if code < 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("a compressed RLE ends inside a number")
    return runs
