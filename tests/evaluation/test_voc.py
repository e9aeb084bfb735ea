import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fcis_tf.evaluation import coco, voc
from fcis_tf.evaluation.overlaps import columns, overlaps
from tests import fixtures
from tests.evaluation.sets import LABELS, noisy, rows, square, truth_of


def measured(truth, found, threshold):
    instances, detections = (columns(r, truth, LABELS) for r in (truth["annotations"], found))
    iou = overlaps(instances, detections, "mask")
    return voc.average_precision(instances, detections, iou, threshold, len(LABELS))


def protocol(truth, found, category, threshold):
    """The paper's protocol, one detection after another."""
    wanted = {}
    for row in truth["annotations"]:
        if row["category_id"] == category and not row["iscrowd"]:
            wanted.setdefault(row["image_id"], []).append([row["segmentation"], False])
    total = sum(map(len, wanted.values()))
    ours = [row for row in found if row["category_id"] == category]
    right, recalls, precisions = 0, [], []
    for n, row in enumerate(sorted(ours, key=lambda row: -row["score"]), start=1):
        best, place = -1.0, None
        for other in wanted.get(row["image_id"], []):
            masks = [coco_mask.decode(m).astype(bool) for m in (row["segmentation"], other[0])]
            iou = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
            if iou > best:
                best, place = iou, other
        if best >= threshold and not place[1]:
            place[1] = True
            right += 1
        recalls.append(right / total)
        precisions.append(right / n)
    levels = [
        max([p for r, p in zip(recalls, precisions, strict=True) if r >= at], default=0.0)
        for at in np.arange(0.0, 1.1, 0.1)
    ]
    return sum(levels) / 11


@pytest.mark.parametrize("threshold", voc.THRESHOLDS)
def test_the_paper_s_protocol_step_by_step(rng, threshold):
    records = [fixtures.make_record(rng, str(n), instances=5) for n in range(1, 9)]
    truth = coco.ground_truth(records, LABELS)
    found = noisy(records, rng, noise=4)
    ours = measured(truth, found, threshold)
    expected = [protocol(truth, found, category, threshold) for category in LABELS.ids[:3]]
    np.testing.assert_allclose(ours[:3], expected, atol=1e-12)
    assert ours[3] == -1 and all(0.05 < value < 0.95 for value in expected)


def test_the_closest_instance_counts_even_if_another_is_free():
    """Where COCO's matching would go on to the next instance, VOC's calls it a false positive."""
    near, far = square(0, 0, 20), square(0, 4, 20)
    truth = truth_of([(near, 3), (far, 3)])
    found = rows(1, [near, square(0, 1, 20)], [3, 3], [0.9, 0.8])
    np.testing.assert_allclose(measured(truth, found, 0.5)[0], 6 / 11)  # recall stays at 1/2
    assert coco.evaluate(truth, found, LABELS).mask["AP50"] == pytest.approx(1.0)


def test_what_lies_in_a_crowd_is_not_counted():
    truth = truth_of([(square(0, 0), 3), (square(20, 20, 30), 3, True)])
    found = rows(1, [square(25, 25), square(0, 0)], [3, 3], [0.9, 0.8])
    assert measured(truth, found, 0.5)[0] == pytest.approx(1.0)
    found += rows(1, [square(0, 60)], [3], [0.95])
    assert measured(truth, found, 0.5)[0] == pytest.approx(0.5)


def test_no_detections_is_zero():
    assert measured(truth_of([(square(0, 0), 3)]), [], 0.5).tolist() == [0.0, -1.0, -1.0, -1.0]
