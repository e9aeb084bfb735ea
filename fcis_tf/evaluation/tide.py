"""What the errors are, and the AP each kind of them costs.

The kinds and their remedies are those of Bolya et al., "TIDE: A General Toolbox for Identifying
Object Detection Errors", ECCV 2020, with IoU 0.5 for a match and 0.1 for background.
"""

from typing import NamedTuple

import numpy as np

from fcis_tf.evaluation.overlaps import Columns, Pairs

MATCH, BACKGROUND = 0.5, 0.1
MOST = 100  # detections of an image and class that count, as in COCO
RECALLS = np.linspace(0, 1, 101)

# Kinds of wrong detections; MISSED is what instances are that no detection came near.
RIGHT, IGNORED, CLASS, LOCALISATION, BOTH, DUPLICATE, BACKGROUND_ERROR, MISSED = range(8)
KINDS = {
    CLASS: ("classification", "right place (IoU ≥ 0.5), wrong class"),
    LOCALISATION: ("localisation", "right class, poor place (0.1 ≤ IoU < 0.5)"),
    BOTH: ("both", "wrong class and poor place"),
    DUPLICATE: ("duplicate", "a better detection already has the instance"),
    BACKGROUND_ERROR: ("background", "no instance there (IoU < 0.1)"),
    MISSED: ("missed", "instances without any detection, right or nearly right"),
}
ALL_FALSE, ALL_MISSED = "all false positives", "all false negatives"


class Errors(NamedTuple):
    """Verdicts on all detections and instances of a data set at IoU 0.5."""

    kind: np.ndarray  # (n,) int of each detection: RIGHT, IGNORED or one of KINDS
    instance: np.ndarray  # (n,) int: what it matches or should have matched, -1 for none
    found: np.ndarray  # (m,) bool of each instance: a detection matches it
    missed: np.ndarray  # (m,) bool
    precision: float  # AP50 of all detections
    cost: dict[str, float]  # by kind: AP50 if it were remedied, minus AP50
    counts: dict[str, int]


def analyse(instances: Columns, detections: Columns, near: Pairs, classes: int) -> Errors:
    """Sort the errors of a data set by kind.

    Args:
        instances: of the whole data set.
        detections: of the whole data set.
        near: the pairs with an IoU of at least BACKGROUND, of any classes.
        classes: their number C.
    """
    near = Pairs(*(part[np.lexsort((near.instance, -near.iou, near.detection))] for part in near))
    same = detections.label[near.detection] == instances.label[near.instance]
    crowd = instances.crowd[near.instance]
    kind = np.full(len(detections.rows), BACKGROUND_ERROR)
    target = np.full(len(kind), -1)
    counted = _rank(detections) < MOST

    own, own_iou = _closest(near, same & ~crowd, len(kind))
    other, other_iou = _closest(near, ~same & ~crowd, len(kind))
    matched = _match(near, same & ~crowd & (near.iou >= MATCH) & counted[near.detection], len(kind))
    # From the weakest claim to the strongest; each overwrites those before.
    for verdict, claim, place in (
        (BOTH, other_iou >= BACKGROUND, other),
        (DUPLICATE, own_iou >= MATCH, own),
        (CLASS, other_iou >= MATCH, other),
        (LOCALISATION, (own_iou >= BACKGROUND) & (own_iou < MATCH), own),
        (RIGHT, matched >= 0, matched),
    ):
        kind[claim], target[claim] = verdict, place[claim]
    covered = np.zeros(len(kind), bool)
    covered[near.detection[same & crowd & (near.iou >= MATCH)]] = True
    kind[(covered & (kind != RIGHT)) | ~counted] = IGNORED

    found = np.zeros(len(instances.rows), bool)
    found[matched[kind == RIGHT]] = True
    nearly = np.zeros(len(found), bool)
    nearly[target[(kind == CLASS) | (kind == LOCALISATION)]] = True
    missed = ~found & ~nearly & ~instances.crowd

    total = np.bincount(instances.label[~instances.crowd], minlength=classes + 1)[1:]
    precision = _mean_precision(detections, detections.label, kind == RIGHT, kind != IGNORED, total)

    def gain(right: np.ndarray, label: np.ndarray, kept: np.ndarray, wanted: np.ndarray) -> float:
        left = np.bincount(instances.label[wanted], minlength=classes + 1)[1:]
        fixed = _mean_precision(detections, label, right, kept, total, left)
        return fixed - precision

    wanted, right, kept = ~instances.crowd, kind == RIGHT, kind != IGNORED
    cost: dict[str, float] = {}
    for number, (name, _) in KINDS.items():
        ours = kind == number
        if number == MISSED:
            cost[name] = gain(right, detections.label, kept, wanted & ~missed)
        elif number in (CLASS, LOCALISATION):
            healed = _best_claims(detections, target, ours, found)
            label = np.where(healed, instances.label[target], detections.label)
            cost[name] = gain(right | healed, label, kept & (~ours | healed), wanted)
        else:
            cost[name] = gain(right, detections.label, kept & ~ours, wanted)
    cost[ALL_FALSE] = gain(right, detections.label, right, wanted)
    cost[ALL_MISSED] = gain(right, detections.label, kept, found)
    counts = {name: int(np.count_nonzero(kind == n)) for n, (name, _) in KINDS.items()}
    counts[KINDS[MISSED][0]] = int(np.count_nonzero(missed))
    counts[ALL_FALSE] = int(np.count_nonzero(kept & ~right))
    counts[ALL_MISSED] = int(np.count_nonzero(wanted & ~found))
    return Errors(kind, target, found, missed, precision, cost, counts)


def _match(near: Pairs, allowed: np.ndarray, detections: int) -> np.ndarray:
    """COCO's greedy matching: (n,) the instance each detection gets, -1 for none.

    Detections come by falling score within their image, and take the closest instance that is
    still free; of several as close, the last.
    """
    order = np.flatnonzero(allowed)
    order = order[np.lexsort((-near.instance[order], -near.iou[order], near.detection[order]))]
    matched = np.full(detections, -1)
    taken: set[int] = set()
    for d, g in zip(near.detection[order].tolist(), near.instance[order].tolist(), strict=True):
        if matched[d] < 0 and g not in taken:
            matched[d] = g
            taken.add(g)
    return matched


def _closest(near: Pairs, allowed: np.ndarray, detections: int) -> tuple[np.ndarray, np.ndarray]:
    """The allowed instance that each detection overlaps most, -1 for none, and their IoU.

    `near` is sorted by detection and falling IoU.
    """
    place, iou = np.full(detections, -1), np.zeros(detections)
    which, firsts = np.unique(near.detection[allowed], return_index=True)
    place[which], iou[which] = near.instance[allowed][firsts], near.iou[allowed][firsts]
    return place, iou


def _best_claims(
    detections: Columns, target: np.ndarray, ours: np.ndarray, found: np.ndarray
) -> np.ndarray:
    """(n,) bool: of the errors `ours`, the best for each instance that nothing matches."""
    candidates = np.flatnonzero(ours)
    candidates = candidates[~found[target[candidates]]]
    candidates = candidates[np.argsort(-detections.score[candidates], kind="stable")]
    _, firsts = np.unique(target[candidates], return_index=True)
    healed = np.zeros(len(target), bool)
    healed[candidates[firsts]] = True
    return healed


def _rank(detections: Columns) -> np.ndarray:
    """(n,) place of each detection among those of its image and class, from 0."""
    group = detections.image * (detections.label.max(initial=0) + 1) + detections.label
    order = np.argsort(group, kind="stable")
    _, starts, counts = np.unique(group[order], return_index=True, return_counts=True)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, counts)
    return rank


def _mean_precision(
    detections: Columns,
    label: np.ndarray,
    right: np.ndarray,
    kept: np.ndarray,
    total: np.ndarray,
    left: np.ndarray | None = None,
) -> float:
    """Mean over the classes with instances of COCO's AP.

    Args:
        detections: for their scores.
        label: (n,) their classes, perhaps corrected.
        right: (n,) bool.
        kept: (n,) bool, those that count.
        total: (C,) number of instances; a class with none is not measured.
        left: (C,) number to be found; a class with none left has nothing wrong: 1.
    """
    left = total if left is None else left
    values = []
    for number in np.flatnonzero(total):
        if left[number]:
            ours = np.flatnonzero(kept & (label == number + 1))
            ours = ours[np.argsort(-detections.score[ours], kind="stable")]
            values.append(_precision(right[ours], int(left[number])))
        else:
            values.append(1.0)
    return float(np.mean(values)) if values else -1.0


def _precision(right: np.ndarray, total: int) -> float:
    """Mean over 101 recalls of the best precision from there on; `right` by falling score."""
    hits = np.cumsum(right)
    envelope = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    place = np.searchsorted(hits / total, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[place].mean())
