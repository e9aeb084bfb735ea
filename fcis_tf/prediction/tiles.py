"""Images far larger than those of training: cut into windows, and what is found put together."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from fcis_tf.cutouts import CutOut
from fcis_tf.instances import Instances, concatenate

Window = tuple[int, int, int, int]  # (y0, x0, y1, x1) in whole pixels, half-open

EDGE = 2  # an instance that ends within so many pixels of a window's inner border is cut by it
SAME = 0.5  # least IoU, where both windows overlap, of two views of one instance


def detect_tiled(
    find: Callable[[Iterable[np.ndarray]], Iterable[Instances]],
    image: np.ndarray,
    *,
    side: int,
    overlap: int,
) -> Instances:
    """Instances of an image (H, W, 3) of any size, best first.

    Args:
        find: from images to the instances of each.
        image: to predict.
        side: of the windows.
        overlap: least overlap of neighbouring windows.
    """
    height, width = image.shape[:2]
    places = windows(height, width, side, overlap)
    parts = find(image[y0:y1, x0:x1] for y0, x0, y1, x1 in places)
    found = [
        part.moved(y0, x0, height, width)
        for (y0, x0, _, _), part in zip(places, parts, strict=True)
    ]
    return replace(merge(places, found), image=image)


def windows(height: int, width: int, side: int, overlap: int) -> list[Window]:
    """Evenly spaced windows of one size that cover an image."""
    rows, columns = (_spans(length, side, overlap) for length in (height, width))
    return [(y0, x0, y1, x1) for (y0, y1), (x0, x1) in itertools.product(rows, columns)]


def merge(places: Sequence[Window], parts: Sequence[Instances]) -> Instances:
    """The instances of an image from those of its windows, best first.

    Instances of a class that agree where both windows overlap are one. If a window shows it whole,
    the best such view stands for it; else all borders cut it and the masks are joined. A cut view
    that another window shows whole, and that nothing there agrees with, is dropped.

    Args:
        places: windows.
        parts: what was found in each, in pixels of the image.
    """
    seen = concatenate(parts)
    place = np.repeat(np.arange(len(parts)), [len(part) for part in parts])  # (n,) window of each
    size = seen.height, seen.width
    cut = [not _shows(places[place[i]], seen.cutouts[i].window, size) for i in range(len(seen))]
    merged = [seen[:0]]
    for group in _groups(seen, place, places):
        whole = [i for i in group if not cut[i]]
        if whole:
            merged.append(seen[[max(whole, key=lambda i: seen.scores[i])]])
        elif len(group) > 1:
            merged.append(_joined(seen[group]))
        else:
            window = seen.cutouts[group[0]].window
            others = (other for i, other in enumerate(places) if i != place[group[0]])
            if not any(_shows(other, window, size) for other in others):
                merged.append(seen[group])
    found = concatenate(merged)
    return found[np.argsort(-found.scores, kind="stable")]


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    if length <= side:
        return [(0, length)]
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [(start, start + side) for start in starts]


def _groups(seen: Instances, place: np.ndarray, places: Sequence[Window]) -> list[list[int]]:
    """Numbers of the views that show the same instance, directly or by way of others."""
    parent = list(range(len(seen)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    of = [np.flatnonzero(place == n).tolist() for n in range(len(places))]
    spans = [cutout.window for cutout in seen.cutouts]
    for a, b in itertools.combinations(range(len(places)), 2):
        zone = _common(places[a], places[b])
        if not zone:
            continue
        left, right = ([i for i in of[n] if _common(spans[i], zone)] for n in (a, b))
        for i, j in itertools.product(left, right):
            if seen.labels[i] == seen.labels[j] and _agree(seen.cutouts[i], seen.cutouts[j], zone):
                parent[root(j)] = root(i)
    groups: dict[int, list[int]] = {}
    for i in range(len(seen)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def _agree(one: CutOut, other: CutOut, zone: Window) -> bool:
    """Whether the IoU of two masks in a zone that both windows show is at least `SAME`."""
    both = _common(one.window, other.window)
    shared = both and _common(both, zone)
    if not shared:
        return False
    overlap = np.count_nonzero(one.inside(shared) & other.inside(shared))
    areas = (np.count_nonzero(cutout.inside(zone)) for cutout in (one, other))
    return bool(overlap >= SAME * (sum(areas) - overlap) and overlap > 0)


def _joined(views: Instances) -> Instances:
    """One instance of all masks, with the class and the score of the best view."""
    spans = np.array([cutout.window for cutout in views.cutouts])  # (n, 4)
    top, left = spans[:, :2].min(0).tolist()
    window = (top, left, *spans[:, 2:].max(0).tolist())
    mask = np.logical_or.reduce([cutout.inside(window) for cutout in views.cutouts])
    box = np.concatenate([views.boxes[:, :2].min(0), views.boxes[:, 2:].max(0)])  # (4,)
    best = views[[int(np.argmax(views.scores))]]
    return replace(best, boxes=box[None], cutouts=(CutOut(top, left, mask),))


def _shows(place: Window, window: Window, size: tuple[int, int]) -> bool:
    """Whether `window` lies in `place` and does not end at a border of it inside the image."""
    y0, x0, y1, x1 = window
    top, left, bottom, right = place
    height, width = size
    return (
        (y0 >= top + EDGE or top == 0)
        and (x0 >= left + EDGE or left == 0)
        and (y1 <= bottom - EDGE or bottom == height)
        and (x1 <= right - EDGE or right == width)
    )


def _common(one: Window, other: Window) -> Window | None:
    top, left = max(one[0], other[0]), max(one[1], other[1])
    bottom, right = min(one[2], other[2]), min(one[3], other[3])
    return (top, left, bottom, right) if top < bottom and left < right else None
