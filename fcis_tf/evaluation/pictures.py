"""The best and the worst images of an evaluation, ground truth beside prediction."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from fcis_tf import drawing
from fcis_tf.evaluation import tide
from fcis_tf.evaluation.measure import Evaluation
from fcis_tf.evaluation.overlaps import Columns

LONGEST = 720  # longer sides are reduced for the page
QUALITY = 82  # of JPEG

# The pixels (H, W, 3) uint8 of the images at some places of the data set.
Fetch = Callable[[Sequence[int]], dict[int, np.ndarray]]


class Pictures(NamedTuple):
    """One image on the page."""

    name: str
    quality: float
    right: int
    false: int
    missed: int
    truth: str  # data URIs
    found: str


def best_and_worst(
    evaluation: Evaluation, fetch: Fetch, most: int
) -> tuple[list[Pictures], list[Pictures]]:
    """At most so many of the best and of the worst images, drawn; none is on both lists.

    Of images that are equally good, those with the most instances come first; of those equally bad,
    those with the most mistakes.
    """
    operating, instances = evaluation.operating, evaluation.instances
    wanted = np.bincount(instances.image[~instances.crowd], minlength=len(operating.quality))
    usable = np.flatnonzero(operating.quality >= 0)
    good = usable[np.lexsort((-wanted[usable], -operating.quality[usable]))]
    bad = usable[np.lexsort((-operating.mistakes[usable], operating.quality[usable]))]
    good = good[: min(most, len(usable) // 2)].tolist()
    bad = bad[: min(most, len(usable) - len(good))].tolist()
    images = fetch(good + bad)
    return tuple(  # type: ignore[return-value]
        [_draw(evaluation, place, images[place]) for place in places if place in images]
        for places in (good, bad)
    )


def _draw(evaluation: Evaluation, place: int, image: np.ndarray) -> Pictures:
    labels, errors, operating = evaluation.labels, evaluation.errors, evaluation.operating
    instances, detections = evaluation.instances, evaluation.detections
    d = np.arange(*detections.of(place).indices(len(detections.rows)))
    d = d[(detections.score[d] >= operating.threshold) & (errors.kind[d] != tide.IGNORED)]
    g = np.arange(*instances.of(place).indices(len(instances.rows)))
    g = g[~instances.crowd[g]]
    right = errors.kind[d] == tide.RIGHT
    found = set(errors.instance[d[right]].tolist())
    wanted = [
        labels.names[instances.label[n] - 1] + ("" if n in found else ": missed")
        for n in g.tolist()
    ]
    shown = [
        f"{labels.names[detections.label[n] - 1]} {detections.score[n]:.2f}"
        + ("" if errors.kind[n] == tide.RIGHT else f": {tide.KINDS[int(errors.kind[n])][0]}")
        for n in d.tolist()
    ]
    # A detection has the colour of the instance it is right about.
    color = {n: drawing.instance_color(i) for i, n in enumerate(g.tolist())}
    wanted_colors = [color[n] if n in found else drawing.SIGNAL for n in g.tolist()]
    shown_colors = [color.get(n, drawing.SIGNAL) for n in np.where(right, errors.instance[d], -1)]
    entry = evaluation.truth["images"][place]
    return Pictures(
        str(entry.get("file_name") or entry["id"]),
        float(operating.quality[place]),
        int(right.sum()),
        int((~right).sum()),
        len(g) - len(found),
        _picture(image, instances, g, wanted, wanted_colors),
        _picture(image, detections, d, shown, shown_colors),
    )


def _picture(
    image: np.ndarray,
    part: Columns,
    which: np.ndarray,
    names: list[str],
    colors: list[tuple[int, int, int]],
) -> str:
    """A data URI of some instances over an image; boxes alone where there are no masks."""
    height, width = image.shape[:2]
    rows = [part.rows[n] for n in which]
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]
    boxes[:, 2:] += boxes[:, :2]
    masks = np.zeros((len(rows), height, width), bool)
    for mask, row in zip(masks, rows, strict=True):
        if "segmentation" in row:
            mask[:] = coco_mask.decode(row["segmentation"])
    picture = Image.fromarray(drawing.draw_instances(image, boxes, masks, names, colors=colors))
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
