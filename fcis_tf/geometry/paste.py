"""Box-frame masks onto the pixels of an image."""

import numpy as np


def paste_masks(
    votes: np.ndarray, boxes: np.ndarray, height: int, width: int, threshold: float
) -> np.ndarray:
    """Sample box-frame masks at pixel centres and threshold them.

    Bilinear inside the box, continued to its edge; a pixel whose centre is outside is False.

    Args:
        votes: (n, M, M) float, mask i in the frame of ``boxes[i]``.
        boxes: (n, 4) in pixels of the image.
        height: of the image.
        width: of the image.
        threshold: a pixel belongs to the mask from this value on.

    Returns:
        (n, height, width) bool.
    """
    pasted = np.zeros((len(votes), height, width), bool)
    for mask, (y0, x0, y1, x1), canvas in zip(votes, boxes, pasted, strict=True):
        first_row, rows = _weights(y0, y1, height, mask.shape[0])
        first_column, columns = _weights(x0, x1, width, mask.shape[1])
        if rows.size and columns.size:
            values = rows @ mask @ columns.T
            canvas[
                first_row : first_row + len(rows), first_column : first_column + len(columns)
            ] = values >= threshold
    return pasted


def _weights(low: float, high: float, limit: int, cells: int) -> tuple[int, np.ndarray]:
    """First pixel whose centre is in [low, high), and weights (pixels, cells) from there on."""
    first = max(int(np.ceil(low - 0.5)), 0)
    last = min(int(np.ceil(high - 0.5)), limit)
    if last <= first:
        return first, np.zeros((0, cells), np.float32)
    place = (np.arange(first, last) + 0.5 - low) / (high - low) * cells - 0.5
    place = np.clip(place, 0, cells - 1)
    below = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    weights = np.zeros((last - first, cells), np.float32)
    row = np.arange(last - first)
    weights[row, np.minimum(below + 1, cells - 1)] = place - below
    weights[row, below] += 1 - (place - below) if cells > 1 else 1
    return first, weights
