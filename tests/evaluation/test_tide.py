import numpy as np
import pytest

from fcis_tf.evaluation import coco, tide
from fcis_tf.evaluation.overlaps import columns, overlaps, pairs
from tests import fixtures
from tests.evaluation.sets import LABELS, noisy, rows, square, truth_of

KINDS = [name for name, _ in tide.KINDS.values()]


def analysed(truth, found):
    instances, detections = (columns(r, truth, LABELS) for r in (truth["annotations"], found))
    near = pairs(instances, detections, overlaps(instances, detections, "mask"), tide.BACKGROUND)
    return tide.analyse(instances, detections, near, len(LABELS))


def costs(errors):
    return {name: round(errors.cost[name], 6) for name in KINDS if errors.cost[name]}


A, B = square(0, 0, 20), square(30, 40, 20)
SHIFTED = square(0, 8, 20)  # IoU with A is 12 / 28


@pytest.mark.parametrize(
    ("kind", "masks", "ids", "scores"),
    [
        # In each case B is found, and what is wrong comes before it.
        ("classification", [A, B], [7, 3], [0.9, 0.8]),
        ("localisation", [SHIFTED, B], [3, 3], [0.9, 0.8]),
        ("both", [A, SHIFTED, B], [3, 7, 3], [0.9, 0.95, 0.8]),
        ("duplicate", [A, square(0, 1, 20), B], [3, 3, 3], [0.9, 0.85, 0.8]),
        ("background", [A, square(40, 0), B], [3, 3, 3], [0.9, 0.95, 0.8]),
        ("missed", [B], [3], [0.8]),
    ],
)
def test_every_kind_of_error_is_found_with_its_cost(kind, masks, ids, scores):
    truth = truth_of([(A, 3), (B, 3)])
    errors = analysed(truth, rows(1, masks, ids, scores))
    assert {name: n for name, n in errors.counts.items() if n and name in KINDS} == {kind: 1}
    # A wrong class does no harm to this class's precision, except to what it was put into.
    harmless = kind == "both"
    assert costs(errors) == ({} if harmless else {kind: round(1 - errors.precision, 6)})


def test_a_corrected_class_is_a_detection_of_that_class():
    truth = truth_of([(A, 3), (B, 7)])
    errors = analysed(truth, rows(1, [A, B], [7, 7], [0.9, 0.8]))
    assert errors.precision == pytest.approx(0.25)  # 0 for class 3, half for class 7
    assert costs(errors) == {"classification": 0.75}


def test_only_the_best_of_several_corrections_stays():
    truth = truth_of([(A, 3), (B, 3)])
    found = rows(1, [SHIFTED, square(8, 0, 20), B], [3, 3, 3], [0.9, 0.8, 0.7])
    errors = analysed(truth, found)
    assert errors.counts["localisation"] == 2 and errors.counts["missed"] == 0
    assert errors.precision + errors.cost["localisation"] == pytest.approx(1.0)
    # Where the instance is found as well, a correction would be its second detection: it goes.
    errors = analysed(truth, rows(1, [SHIFTED, A, B], [3, 3, 3], [0.9, 0.8, 0.7]))
    assert errors.counts["localisation"] == 1
    assert errors.precision + errors.cost["localisation"] == pytest.approx(1.0)


def test_missing_every_instance_of_a_class_costs_its_whole_precision():
    truth = truth_of([(A, 3), (B, 7)])
    errors = analysed(truth, rows(1, [A], [3], [0.9]))
    assert errors.precision == 0.5 and costs(errors) == {"missed": 0.5}
    nothing = analysed(truth, [])
    assert nothing.precision == 0.0 and costs(nothing) == {"missed": 1.0}


def test_what_a_crowd_covers_is_no_error():
    truth = truth_of([(A, 3), (square(20, 20, 40), 3, True)])
    errors = analysed(
        truth, rows(1, [A, square(30, 30), square(30, 30)], [3, 3, 7], [0.7, 0.9, 0.8])
    )
    assert errors.precision == 1.0 and errors.counts["background"] == 1  # the one of class 7
    assert not errors.missed.any() and errors.cost[tide.ALL_MISSED] == 0.0


def loop(truth, found):
    """The kinds of all detections and the missed instances, image by image, in plain words."""
    kinds, missed = {}, set()
    for image in truth["images"]:
        gold = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        ours = sorted(
            (row for row in found if row["image_id"] == image["id"]), key=lambda row: -row["score"]
        )
        masks = [[_decode(row) for row in part] for part in (ours, gold)]
        iou = np.array([[(d & g).sum() / (d | g).sum() for g in masks[1]] for d in masks[0]])
        same = np.array([[d["category_id"] == g["category_id"] for g in gold] for d in ours])
        used, usable = set(), set()
        right = {}
        for n in range(len(ours)):
            best = None
            for m in range(len(gold)):
                if same[n, m] and m not in used and iou[n, m] >= 0.5:
                    best = m if best is None or iou[n, m] >= iou[n, best] else best
            if best is not None:
                right[n] = best
                used.add(best)
        for n, row in enumerate(ours):
            own, other = np.where(same[n], iou[n], 0), np.where(same[n], 0, iou[n])
            if n in right:
                kind = tide.RIGHT
            elif 0.1 <= own.max() < 0.5:
                kind = tide.LOCALISATION
                usable.add(int(own.argmax()))
            elif other.max() >= 0.5:
                kind = tide.CLASS
                usable.add(int(other.argmax()))
            elif own.max() >= 0.5:
                kind = tide.DUPLICATE
            elif iou[n].max() < 0.1:
                kind = tide.BACKGROUND_ERROR
            else:
                kind = tide.BOTH
            kinds[id(row)] = kind
        missed |= {gold[m]["id"] for m in range(len(gold)) if m not in used | usable}
    return kinds, missed


def _decode(row):
    from pycocotools import mask as coco_mask

    return coco_mask.decode(row["segmentation"]).astype(bool)


@pytest.fixture
def crowded(rng):
    records = [fixtures.make_record(rng, str(n), instances=6) for n in range(1, 11)]
    truth = coco.ground_truth(records, LABELS)
    found = noisy(records, rng, noise=5, wrong=0.4)
    for row in found[::5]:  # far from where it belongs
        row["segmentation"] = coco.encode_mask(np.roll(_decode(row), 30, 0))
    truth["annotations"] += truth_of([(square(50, 70, 4), 7)])["annotations"]
    truth["annotations"][-1]["id"] = len(truth["annotations"])
    return truth, found


def test_kinds_are_those_of_a_plain_loop(crowded):
    truth, found = crowded
    instances, detections = (columns(r, truth, LABELS) for r in (truth["annotations"], found))
    errors = analysed(truth, found)
    kinds, missed = loop(truth, found)
    assert errors.kind.tolist() == [kinds[id(row)] for row in detections.rows]
    assert {r["id"] for r, m in zip(instances.rows, errors.missed, strict=True) if m} == missed
    assert missed and set(kinds.values()) == {
        tide.RIGHT, tide.CLASS, tide.LOCALISATION, tide.BOTH, tide.DUPLICATE, tide.BACKGROUND_ERROR
    }  # fmt: skip


def test_its_ap_is_coco_s_and_no_remedy_harms(crowded):
    truth, found = crowded
    found += [row | {"score": row["score"] / 2} for _ in range(60) for row in found[:8]]
    errors = analysed(truth, found)
    assert max(map(len, _by_image_and_class(found).values())) > 100  # more than count
    assert errors.precision == pytest.approx(coco.evaluate(truth, found, LABELS).mask["AP50"])
    assert all(cost >= 0 for cost in errors.cost.values())
    assert errors.cost[tide.ALL_FALSE] > max(errors.cost[n] for n in ("duplicate", "background"))
    assert errors.cost[tide.ALL_MISSED] >= errors.cost["missed"] > 0


def _by_image_and_class(found):
    groups = {}
    for row in found:
        groups.setdefault((row["image_id"], row["category_id"]), []).append(row)
    return groups
