"""Box-frame masks onto the pixels of an image."""

import math
from typing import NamedTuple

import numpy as np

from fcis_tf.cutouts import CutOut


def paste_masks(
    votes: np.ndarray, boxes: np.ndarray, height: int, width: int, threshold: float
) -> np.ndarray:
    """As `paste_cutouts`, in whole images: (n, height, width) bool."""
    cutouts = paste_cutouts(votes, boxes, height, width, threshold)
    pasted = np.zeros((len(votes), height, width), bool)
    for (top, left, mask), canvas in zip(cutouts, pasted, strict=True):
        canvas[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return pasted


def paste_cutouts(
    votes: np.ndarray, boxes: np.ndarray, height: int, width: int, threshold: float
) -> tuple[CutOut, ...]:
    """Sample box-frame masks at pixel centres and threshold them.

    Bilinear inside the box, continued to its edge; a pixel whose centre is outside is False.

    Args:
        votes: (n, M, M) float, mask i in the frame of ``boxes[i]``.
        boxes: (n, 4) in pixels of the image.
        height: of the image.
        width: of the image.
        threshold: a pixel belongs to the mask from this value on.

    Returns:
        n masks, each in the window of the pixels whose centres are in its box.
    """
    cells, cutouts = votes.shape[1], []
    # One by one: every mask has a window of its own size.
    for mask, (y0, x0, y1, x1) in zip(votes, boxes.tolist(), strict=True):
        top, rows = _taps(y0, y1, height, cells)
        left, columns = _taps(x0, x1, width, cells)
        # Columns first: the larger product then copies whole rows.
        values = _interpolate(mask.T, columns)  # (w, M)
        values = _interpolate(np.ascontiguousarray(values.T), rows)  # (h, w)
        cutouts.append(CutOut(top, left, values >= threshold))
    return tuple(cutouts)


class Taps(NamedTuple):
    """Between which two cells each pixel centre lies, and how far along."""

    below: np.ndarray  # (pixels,) int
    above: np.ndarray  # (pixels,) int
    fraction: np.ndarray  # (pixels, 1) float32


def _taps(low: float, high: float, limit: int, cells: int) -> tuple[int, Taps]:
    """First pixel whose centre is in [low, high), and where it and those after it lie.

    Args:
        low: edge of the box, in pixels.
        high: the other edge.
        limit: pixels of the image along this axis.
        cells: of the mask along this axis.
    """
    # The centre of pixel p is p + 0.5; pixels first..last - 1 have theirs inside box and image.
    first = max(math.ceil(low - 0.5), 0)
    last = max(min(math.ceil(high - 0.5), limit), first)
    scale = cells / (high - low) if last > first else 0.0  # cells per pixel
    # In cells, where 0 is the centre of the first one; clamped to the outer centres.
    place = (np.arange(first, last) + (0.5 - low)) * scale - 0.5
    place = np.clip(place, 0, cells - 1)
    below = place.astype(np.int64)
    fraction = (place - below).astype(np.float32)[:, None]
    return first, Taps(below, np.minimum(below + 1, cells - 1), fraction)


def _interpolate(values: np.ndarray, taps: Taps) -> np.ndarray:
    """(cells, n) -> (pixels, n), linear along the first axis."""
    # lower + (upper - lower) * fraction, in place to save two arrays of the mask's size.
    lower = values[taps.below]
    mixed = values[taps.above]
    mixed -= lower
    mixed *= taps.fraction
    mixed += lower
    return mixed
