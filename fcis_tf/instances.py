"""Instances as cut-outs: each mask in a window of its own, whatever the size of the image."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels

MOST_NUMBERED = 65535  # instances that a 16-bit label map can tell apart


class Segment(NamedTuple):
    """One instance of an image, in its pixels."""

    label: int  # 1..C
    score: float
    box: tuple[float, float, float, float]  # (y0, x0, y1, x1), half-open, around the mask
    corner: tuple[int, int]  # first row and column of `mask`
    mask: np.ndarray  # (h, w) bool

    @property
    def window(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1) of `mask`."""
        (top, left), (height, width) = self.corner, self.mask.shape
        return top, left, top + height, left + width

    def moved(self, rows: int, columns: int) -> "Segment":
        """The same in an image that begins so many rows above and columns to the left."""
        y0, x0, y1, x1 = self.box
        return self._replace(
            box=(y0 + rows, x0 + columns, y1 + rows, x1 + columns),
            corner=(self.corner[0] + rows, self.corner[1] + columns),
        )

    def inside(self, window: Sequence[int]) -> np.ndarray:
        """The mask in a window (y0, x0, y1, x1), as (h, w) bool of the window's size."""
        top, left, bottom, right = window
        canvas = np.zeros((bottom - top, right - left), bool)
        y0, x0, y1, x1 = self.window
        a, b, c, d = max(y0, top), max(x0, left), min(y1, bottom), min(x1, right)
        if a < c and b < d:
            part = self.mask[a - y0 : c - y0, b - x0 : d - x0]
            canvas[a - top : c - top, b - left : d - left] = part
        return canvas


def cut_out(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, masks: np.ndarray
) -> list[Segment]:
    """Segments of boxes (n, 4), labels (n,), scores (n,) and masks (n, H, W) bool.

    A mask has no pixel outside its box.
    """
    found = []
    for box, label, score, mask in zip(boxes.tolist(), labels, scores, masks, strict=True):
        top, left = (max(int(np.floor(side)), 0) for side in box[:2])
        bottom, right = (int(np.ceil(side)) for side in box[2:])
        window = mask[top:bottom, left:right].copy()
        found.append(Segment(int(label), float(score), tuple(box), (top, left), window))
    return found


def label_map(segments: Sequence[Segment], height: int, width: int) -> np.ndarray:
    """(H, W) uint16: the place of the instance in `segments`, from 1, or 0 where there is none.

    Where instances overlap the first one counts.

    Raises:
        FcisError: there are too many to number.
    """
    if len(segments) > MOST_NUMBERED:
        raise FcisError(
            f"label map: expected at most {MOST_NUMBERED} instances, found {len(segments)}; "
            "raise the least score"
        )
    numbers = np.zeros((height, width), np.uint16)
    for number, segment in reversed(list(enumerate(segments, start=1))):
        y0, x0, y1, x1 = segment.window
        numbers[y0:y1, x0:x1][segment.mask] = number
    return numbers


def results(
    image_id: int | str, segments: Sequence[Segment], height: int, width: int, labels: Labels
) -> list[dict[str, Any]]:
    """COCO results of one image of this height and width."""
    return [
        {
            "image_id": image_id,
            "category_id": labels.ids[segment.label - 1],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": segment.score,
            "segmentation": encode(segment, height, width),
        }
        for segment in segments
        for y0, x0, y1, x1 in [segment.box]
    ]


def encode(segment: Segment, height: int, width: int) -> dict[str, Any]:
    """Compressed RLE of the mask in its image; only the columns of the window are looked at."""
    top, left, bottom, right = segment.window
    strip = np.zeros((right - left, height), bool)  # COCO counts down the columns
    strip[:, top:bottom] = segment.mask.T
    changes = np.flatnonzero(np.diff(strip.ravel(), prepend=False, append=False)) + left * height
    changes = changes[changes < height * width]
    counts = list(_gaps([0, *changes.tolist(), height * width]))
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}


def _gaps(places: list[int]) -> Iterator[int]:
    return (after - before for before, after in itertools.pairwise(places))
