"""Masks in windows of their own, whose cost does not depend on the size of the image."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from contourpy import FillType, contour_generator
from pycocotools import mask as coco_mask


class CutOut(NamedTuple):
    """The mask of one instance, in pixels of its image; outside the window it is False."""

    top: int  # first row of the image that `mask` covers
    left: int  # first column
    mask: np.ndarray  # (h, w) bool

    @property
    def window(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1) of `mask`, half-open."""
        height, width = self.mask.shape
        return self.top, self.left, self.top + height, self.left + width

    @property
    def area(self) -> int:
        """Number of pixels inside the mask."""
        return int(np.count_nonzero(self.mask))

    def moved(self, rows: int, columns: int) -> "CutOut":
        """The same mask in an image that begins `rows` above and `columns` to the left."""
        return CutOut(self.top + rows, self.left + columns, self.mask)

    def inside(self, window: Sequence[int]) -> np.ndarray:
        """The mask (h, w) bool in a window (y0, x0, y1, x1) of the image, of the window's size."""
        top, left, bottom, right = window
        canvas = np.zeros((bottom - top, right - left), bool)
        y0, x0, y1, x1 = self.window
        a, b, c, d = max(y0, top), max(x0, left), min(y1, bottom), min(x1, right)
        if a < c and b < d:
            part = self.mask[a - y0 : c - y0, b - x0 : d - x0]
            canvas[a - top : c - top, b - left : d - left] = part
        return canvas

    def to_rle(self, height: int, width: int) -> dict[str, Any]:
        """COCO's compressed RLE of the mask in an image of this size, its counts as text."""
        # COCO counts down the columns; only those of the window are walked.
        strip = np.zeros((self.mask.shape[1], height), bool)
        strip[:, self.top : self.top + self.mask.shape[0]] = self.mask.T
        changes = np.flatnonzero(np.diff(strip.ravel(), prepend=False, append=False))
        changes = changes + self.left * height
        changes = changes[changes < height * width]
        ends = [0, *changes.tolist(), height * width]
        counts = [after - before for before, after in itertools.pairwise(ends)]
        rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return {"size": [height, width], "counts": rle["counts"].decode()}

    def polygons(self) -> list[np.ndarray]:
        """Outlines, one for each connected part: (m, 2) float64 (x, y) in pixels of the image.

        Filled by COCO's rules they give the mask again. A hole is joined to the outline around it
        by a line that is walked forth and back, since COCO's polygons have no holes.
        """
        # Pixel centres are the grid points; a frame of zeros closes every outline.
        grid = contour_generator(
            z=np.pad(self.mask, 1).astype(np.float32), fill_type=FillType.OuterOffset
        )
        parts = []
        for points, offsets in zip(*grid.filled(0.5, np.inf), strict=True):
            points = points + np.array([self.left - 0.5, self.top - 0.5])
            rings = [points[a:b] for a, b in itertools.pairwise(offsets)]  # the outer one first
            for hole in rings[1:]:
                rings[0] = np.concatenate([rings[0], hole, rings[0][:1]])
            parts.append(rings[0])
        return parts


def cut_out(mask: np.ndarray, box: Sequence[float]) -> CutOut:
    """The part of a mask (H, W) bool inside the whole pixels that a box (y0, x0, y1, x1) touches.

    The mask must have no pixel outside the box.
    """
    top, left = (max(int(np.floor(side)), 0) for side in box[:2])
    bottom, right = (int(np.ceil(side)) for side in box[2:])
    return CutOut(top, left, mask[top:bottom, left:right].copy())
