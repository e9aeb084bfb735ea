import functools

import numpy as np
import pytest

from fcis_tf.evaluation import coco
from fcis_tf.evaluation.measure import measure
from tests import fixtures
from tests.evaluation.sets import LABELS, noisy, rows, square, truth_of

A, B = square(0, 0, 20), square(30, 40, 20)


def test_the_threshold_has_the_best_f1_of_all(rng):
    records = [fixtures.make_record(rng, str(n), instances=5) for n in range(1, 9)]
    truth, found = coco.ground_truth(records, LABELS), noisy(records, rng, noise=5)
    for row in found:  # equal scores cannot be parted
        row["score"] = round(row["score"], 1)
    evaluation = measure(truth, found, LABELS)
    best = evaluation.operating

    @functools.cache
    def rates(threshold):
        kept = [row for row in found if row["score"] >= threshold]
        errors = measure(truth, kept, LABELS).errors
        right = int(errors.found.sum())
        return right / len(kept), right / len(errors.found)

    def f1(threshold):
        precision, recall = rates(threshold)
        return 2 * precision * recall / (precision + recall)

    assert (best.precision, best.recall) == pytest.approx(rates(best.threshold))
    assert best.f1 == pytest.approx(f1(best.threshold))
    assert best.f1 == pytest.approx(max(f1(row["score"]) for row in found))
    for threshold, precision, recall, f in best.curve[5:100:15]:
        assert (precision, recall) == pytest.approx(rates(threshold)) and f == pytest.approx(
            f1(threshold)
        )


def test_quality_is_panoptic_quality():
    truth = truth_of([(A, 3), (B, 3)], [(A, 3)], [], [(A, 3), (B, 7)])
    found = [
        *rows(1, [square(0, 2, 20), B, square(40, 0)], [3, 3, 3], [0.9, 0.8, 0.7]),
        *rows(4, [A, B], [3, 7], [0.9, 0.9]),
    ]
    operating = measure(truth, found, LABELS).operating
    assert operating.threshold == pytest.approx(0.8)  # without the false one
    np.testing.assert_allclose(operating.quality, [(18 / 22 + 1) / 2, 0.0, -1.0, 1.0])
    assert operating.mistakes.tolist() == [0, 1, 0, 0]
    # Of class 3 four are wanted and three found; classes 9 and 11 are nowhere.
    np.testing.assert_allclose(operating.by_class, [[1, 3 / 4], [1, 1], [-1, -1], [-1, -1]])


def test_without_detections_all_is_missed():
    operating = measure(truth_of([(A, 3)]), [], LABELS).operating
    assert (operating.f1, operating.recall, operating.precision) == (0.0, 0.0, -1.0)
    assert operating.quality.tolist() == [0.0] and operating.mistakes.tolist() == [1]
