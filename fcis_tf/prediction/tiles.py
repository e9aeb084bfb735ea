"""Images far larger than those of training: cut into windows, and what is found put together."""

import itertools
from collections.abc import Callable, Iterable

import numpy as np

from fcis_tf.instances import Segment

Window = tuple[int, int, int, int]  # (y0, x0, y1, x1) in whole pixels, half-open

EDGE = 2  # an instance that ends within so many pixels of a window's inner border is cut by it
SAME = 0.5  # least IoU, where both windows look, of two views of one instance


def detect_tiled(
    find: Callable[[Iterable[np.ndarray]], Iterable[list[Segment]]],
    image: np.ndarray,
    *,
    side: int,
    overlap: int,
) -> list[Segment]:
    """Instances of an image (H, W, 3), best first.

    Args:
        find: from images to the segments of each.
        image: of any size.
        side: of the windows.
        overlap: least overlap of neighbouring windows.
    """
    height, width = image.shape[:2]
    places = windows(height, width, side, overlap)
    parts = find(image[y0:y1, x0:x1] for y0, x0, y1, x1 in places)
    found = [
        (place, [segment.moved(*place[:2]) for segment in segments])
        for place, segments in zip(places, parts, strict=True)
    ]
    return merge(found, height, width)


def windows(height: int, width: int, side: int, overlap: int) -> list[Window]:
    """Evenly spaced windows of one size that cover an image."""
    rows, columns = (_spans(length, side, overlap) for length in (height, width))
    return [(y0, x0, y1, x1) for (y0, y1), (x0, x1) in itertools.product(rows, columns)]


def merge(parts: list[tuple[Window, list[Segment]]], height: int, width: int) -> list[Segment]:
    """The instances of an image from those of its windows, best first.

    Segments of a class that agree where both windows look are one instance. If a window shows it
    whole, the best such segment stands for it; else all borders cut it and the masks are united. A
    cut segment that another window shows whole, and that nothing there agrees with, is dropped.

    Args:
        parts: windows and their segments, in pixels of the image.
        height: of the image.
        width: of the image.
    """
    places = [window for window, _ in parts]
    seen = [(number, one) for number, (_, found) in enumerate(parts) for one in found]
    cut = [_is_cut(one, places[number], height, width) for number, one in seen]
    merged = []
    for group in _groups(seen, places):
        whole = [seen[i][1] for i in group if not cut[i]]
        if whole:
            merged.append(max(whole, key=lambda one: one.score))
        elif len(group) > 1:
            merged.append(_united([seen[i][1] for i in group]))
        else:
            number, one = seen[group[0]]
            others = (place for i, place in enumerate(places) if i != number)
            if not any(_shows(place, one, height, width) for place in others):
                merged.append(one)
    return sorted(merged, key=lambda one: -one.score)


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    if length <= side:
        return [(0, length)]
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [(start, start + side) for start in starts]


def _groups(seen: list[tuple[int, Segment]], places: list[Window]) -> list[list[int]]:
    """Numbers of the segments that show the same instance, directly or by way of others."""
    parent = list(range(len(seen)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    of = [[i for i, (number, _) in enumerate(seen) if number == n] for n in range(len(places))]
    for a, b in itertools.combinations(range(len(places)), 2):
        zone = _common(places[a], places[b])
        if not zone:
            continue
        left, right = ([i for i in of[n] if _common(seen[i][1].window, zone)] for n in (a, b))
        for i, j in itertools.product(left, right):
            if _agree(seen[i][1], seen[j][1], zone):
                parent[root(j)] = root(i)
    groups: dict[int, list[int]] = {}
    for i in range(len(seen)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def _agree(one: Segment, other: Segment, zone: Window) -> bool:
    both = _common(one.window, other.window)
    shared = both and _common(both, zone)
    if one.label != other.label or not shared:
        return False
    overlap = np.count_nonzero(one.inside(shared) & other.inside(shared))
    areas = (np.count_nonzero(segment.inside(zone)) for segment in (one, other))
    return bool(overlap >= SAME * (sum(areas) - overlap) and overlap > 0)


def _united(segments: list[Segment]) -> Segment:
    boxes = np.array([segment.box for segment in segments])
    spans = np.array([segment.window for segment in segments])
    top, left = spans[:, :2].min(0).tolist()
    window = (top, left, *spans[:, 2:].max(0).tolist())
    best = max(segments, key=lambda one: one.score)
    low, high = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
    mask = np.logical_or.reduce([segment.inside(window) for segment in segments])
    return Segment(best.label, best.score, (*low, *high), (top, left), mask)


def _is_cut(segment: Segment, window: Window, height: int, width: int) -> bool:
    return not _shows(window, segment, height, width)


def _shows(window: Window, segment: Segment, height: int, width: int) -> bool:
    """Whether a segment lies in a window and does not end at a border inside the image."""
    y0, x0, y1, x1 = segment.window
    top, left, bottom, right = window
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
