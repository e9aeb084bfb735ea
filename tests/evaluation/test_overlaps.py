import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fcis_tf.evaluation import coco
from fcis_tf.evaluation.measure import measure
from fcis_tf.evaluation.overlaps import columns, overlaps
from tests import fixtures
from tests.evaluation.sets import LABELS, noisy, rows, square, truth_of


def boundary(mask):
    """The pixels of a mask that are nearer than d steps to a pixel outside it, one by one."""
    height, width = mask.shape
    d = max(1, round(0.02 * (height**2 + width**2) ** 0.5))
    edge = np.zeros_like(mask)
    padded = np.pad(mask, d)
    for y, x in zip(*np.nonzero(mask), strict=True):
        edge[y, x] = not padded[y : y + 2 * d + 1, x : x + 2 * d + 1].all()
    return edge


def boundary_iou(one, other):
    parts = [(a, b) for a, b in ((one, other), (boundary(one), boundary(other)))]
    return min(float((a & b).sum() / max((a | b).sum(), 1)) for a, b in parts)


def test_boundary_ap_equals_pycocotools_with_the_boundary_iou_of_pixels(rng):
    records = [fixtures.make_record(rng, str(n), instances=4, crowds=n % 2) for n in range(1, 7)]
    truth, found = coco.ground_truth(records, LABELS), noisy(records, rng, noise=1)

    class Reference(COCOeval):
        def computeIoU(self, image, category):
            gold, ours = self._gts[image, category], self._dts[image, category]
            ours = sorted(ours, key=lambda row: -row["score"])
            if not gold or not ours:
                return []
            masks = [coco_mask.decode(row["segmentation"]).astype(bool) for row in gold]
            return np.array(
                [
                    [
                        (mine & mask).sum() / mine.sum() if row["iscrowd"]
                        else boundary_iou(mine, mask)
                        for row, mask in zip(gold, masks, strict=True)
                    ]
                    for mine in (coco_mask.decode(row["segmentation"]).astype(bool) for row in ours)
                ]
            )  # fmt: skip

    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = truth
        gold.createIndex()
        masks = [{k: v for k, v in row.items() if k != "bbox"} for row in found]
        reference = Reference(gold, gold.loadRes(masks), "segm")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    ours = measure(truth, found, LABELS).metrics
    np.testing.assert_allclose(list(ours.boundary.values()), reference.stats, atol=1e-9)
    assert 0.05 < ours.boundary["AP"] < ours.mask["AP"] - 0.05


def test_boxes_as_detected_and_around_the_mask():
    truth = truth_of([(square(10, 10, 20), 3)])
    found = rows(1, [square(10, 10, 20)], [3], [0.5])
    found[0]["bbox"] = [10.0, 10.0, 20.0, 10.0]  # the upper half
    instances, detections = (columns(r, truth, LABELS) for r in (truth["annotations"], found))
    assert overlaps(instances, detections, "box")[0].tolist() == [[0.5]]
    assert overlaps(instances, detections, "enclosing")[0].tolist() == [[1.0]]
    metrics = measure(truth, found, LABELS).metrics
    assert metrics.enclosing["AP"] == pytest.approx(1.0) and metrics.box["AP75"] == 0.0


def test_enclosing_boxes_are_judged_as_pycocotools_judges_them(rng):
    records = [fixtures.make_record(rng, str(n), instances=4) for n in range(1, 7)]
    truth, found = coco.ground_truth(records, LABELS), noisy(records, rng)
    for row in found:
        row["bbox"] = [0.0, 0.0, 5.0, 5.0]
    boxes = [
        {k: row[k] for k in ("image_id", "category_id", "score")}
        | {"bbox": coco_mask.toBbox(row["segmentation"]).tolist()}
        for row in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = truth
        gold.createIndex()
        reference = COCOeval(gold, gold.loadRes(boxes), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    metrics = measure(truth, found, LABELS).metrics
    np.testing.assert_allclose(list(metrics.enclosing.values()), reference.stats, atol=1e-9)
    assert metrics.box["AP50"] < 0.1 < metrics.enclosing["AP50"]


def test_columns_are_sorted_by_image_and_score_and_equals_keep_their_order():
    truth = truth_of([], [], [])
    keys = [(3, 0.5), (1, 0.2), (3, 0.9), (3, 0.5), (1, 0.7)]
    found = [{"image_id": i, "category_id": 7, "score": s, "n": n} for n, (i, s) in enumerate(keys)]
    ours = columns(found, truth, LABELS)
    assert [row["n"] for row in ours.rows] == [4, 1, 2, 0, 3]
    assert ours.start.tolist() == [0, 2, 2, 5] and ours.label.tolist() == [2] * 5
    assert [row["n"] for row in ours.rows[ours.of(2)]] == [2, 0, 3]
