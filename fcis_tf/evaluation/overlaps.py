"""How much every detection overlaps every instance of its image: computed once, used by all."""

import os
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval.core.mask import calculateRleForAllAnnotations
from pycocotools import mask as coco_mask

from fcis_tf.labels import Labels

BOUNDARY = 0.02  # its width as a part of the image's diagonal (Cheng et al., Boundary IoU)
THREADS = os.cpu_count() or 1
LEAST = 0.5  # the least IoU at which any metric matches


class Columns(NamedTuple):
    """The instances or the detections of a data set in columns: by image, then by falling score."""

    rows: list[dict[str, Any]]  # n COCO entries
    image: np.ndarray  # (n,) int, place of the image in the data set
    label: np.ndarray  # (n,) int in 1..C
    score: np.ndarray  # (n,) float64, 1 for instances
    crowd: np.ndarray  # (n,) bool
    start: np.ndarray  # (I + 1,) int: image i has the entries start[i] : start[i + 1]

    def of(self, image: int) -> slice:
        """Where the entries of an image are."""
        return slice(int(self.start[image]), int(self.start[image + 1]))


class Pairs(NamedTuple):
    """A detection and an instance that overlap, in P pairs."""

    detection: np.ndarray  # (P,) int
    instance: np.ndarray  # (P,) int
    iou: np.ndarray  # (P,) float64


def columns(rows: list[dict[str, Any]], truth: dict[str, Any], labels: Labels) -> Columns:
    """COCO annotations or results of the images of `truth`, sorted; equals keep their order."""
    place = {image["id"]: i for i, image in enumerate(truth["images"])}
    number = {category: n for n, category in enumerate(labels.ids, start=1)}
    image = np.array([place[row["image_id"]] for row in rows], np.int64)
    score = np.array([row.get("score", 1.0) for row in rows], np.float64)
    order = np.lexsort((-score, image))
    ordered = [rows[i] for i in order]
    return Columns(
        ordered,
        image[order],
        np.array([number[row["category_id"]] for row in ordered], np.int64),
        score[order],
        np.array([bool(row.get("iscrowd", 0)) for row in ordered], bool),
        np.searchsorted(image[order], np.arange(len(place) + 1)),
    )


def overlaps(instances: Columns, detections: Columns, kind: str) -> list[np.ndarray]:
    """The IoU of each image's detections and instances, by "mask", "box", "enclosing", "boundary".

    Over a crowd, the part of the detection that it covers. Boundary IoU is the lesser of the IoU of
    the masks and of their boundaries, and 0 where the masks alone are too far apart to match.

    Returns:
        For each image (D_i, G_i) float64.
    """
    if kind == "boundary":
        return _boundary_overlaps(instances, detections)
    sides: list[Any]
    if kind == "mask":
        sides = [[row["segmentation"] for row in part.rows] for part in (detections, instances)]
    else:
        boxes = [row["bbox"] for row in detections.rows]
        if kind == "enclosing" and detections.rows:
            boxes = coco_mask.toBbox([row["segmentation"] for row in detections.rows])
        sides = [boxes, [row["bbox"] for row in instances.rows]]
        sides = [np.asarray(side, np.float64).reshape(-1, 4) for side in sides]
    crowd = instances.crowd.astype(int).tolist()
    return [
        _iou(sides[0][detections.of(i)], sides[1][instances.of(i)], crowd[instances.of(i)])
        for i in range(len(instances.start) - 1)
    ]


def pairs(instances: Columns, detections: Columns, iou: list[np.ndarray], least: float) -> Pairs:
    """The pairs that overlap by at least so much, of any classes."""
    found = [np.nonzero(matrix >= least) for matrix in iou]
    return Pairs(
        _joined([d + detections.start[i] for i, (d, _) in enumerate(found)], np.int64),
        _joined([g + instances.start[i] for i, (_, g) in enumerate(found)], np.int64),
        _joined([matrix[at] for matrix, at in zip(iou, found, strict=True)], np.float64),
    )


def _iou(found: Any, wanted: Any, crowd: list[int]) -> np.ndarray:
    if not len(found) or not len(wanted):
        return np.zeros((len(found), len(wanted)))
    return np.asarray(coco_mask.iou(found, wanted, crowd), np.float64)


def _boundary_overlaps(instances: Columns, detections: Columns) -> list[np.ndarray]:
    """Only what matches by its mask needs a boundary, which costs more than all else."""
    iou = overlaps(instances, detections, "mask")
    near = pairs(instances, detections, iou, LEAST)
    wanted = detections.label[near.detection] == instances.label[near.instance]
    wanted &= ~instances.crowd[near.instance]
    outlines = [
        _outlines(part, np.unique(index[wanted]))
        for part, index in ((detections, near.detection), (instances, near.instance))
    ]
    for i, matrix in enumerate(iou):
        spans = [part.of(i) for part in (detections, instances)]
        at = [
            [n for n in range(span.start, span.stop) if n in outline]
            for span, outline in zip(spans, outlines, strict=True)
        ]
        found, edges = ([line[n] for n in side] for line, side in zip(outlines, at, strict=True))
        block = np.ix_(*(np.array(n, int) - s.start for n, s in zip(at, spans, strict=True)))
        closest = np.where(instances.crowd[spans[1]], matrix, 0.0)
        closest[block] = np.minimum(matrix[block], _iou(found, edges, [0] * len(edges)))
        iou[i] = closest
    return iou


def _outlines(part: Columns, which: np.ndarray) -> dict[int, dict[str, Any]]:
    """The boundaries of some masks as RLE."""
    rows = [
        {key: part.rows[n][key] for key in ("image_id", "segmentation")} for n in which.tolist()
    ]
    sizes = {row["image_id"]: tuple(row["segmentation"]["size"]) for row in rows}
    # Boundaries are the one thing of masks that pycocotools does not have.
    calculateRleForAllAnnotations(rows, sizes, True, True, BOUNDARY, THREADS)
    return {n: row["boundary"] for n, row in zip(which.tolist(), rows, strict=True)}


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts])
