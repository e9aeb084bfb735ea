import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fcis_tf.errors import FcisError
from fcis_tf.evaluate import coco
from fcis_tf.labels import Labels
from tests import fixtures

LABELS = Labels((3, 7, 9, 11), ("disc", "block", "other", "absent"))


@pytest.fixture
def records(rng):
    return [fixtures.make_record(rng, str(n + 10), instances=4, crowds=n % 2) for n in range(8)]


def detections(records, rng, noise=6, wrong=0.2, copies=2):
    found = []
    for record in records:
        for instance in record.instances:
            for _ in range(copies):
                mask = np.roll(instance.mask, rng.integers(-noise, noise + 1, 2), (0, 1))
                number = 1 + LABELS.ids.index(instance.category_id)
                if rng.uniform() < wrong:
                    number = int(rng.integers(1, 4))
                found += coco.results(
                    int(record.image_id),
                    np.array([fixtures.tight_box(mask)]),
                    np.array([number]),
                    rng.uniform(size=1),
                    mask[None],
                    LABELS,
                )
    return found


def test_all_statistics_equal_pycocotools(records, rng):
    truth, found = coco.ground_truth(records, LABELS), detections(records, rng)
    metrics = coco.evaluate(truth, found, LABELS)
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = truth
        gold.createIndex()
        loaded = gold.loadRes([dict(row) for row in found])
        for kind, ours in (("segm", metrics.mask), ("bbox", metrics.box)):
            judge = COCOeval(gold, loaded, kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            np.testing.assert_allclose(list(ours.values()), judge.stats, atol=1e-9)
            for number, row in enumerate(metrics.per_class):
                precision = judge.eval["precision"][:, :, number, 0, -1]
                expected = precision.mean() if (precision > -1).all() else -1
                name = "mask_AP" if kind == "segm" else "box_AP"
                np.testing.assert_allclose(row[name], expected, atol=1e-9)
    assert 0.05 < metrics.mask["AP"] < 0.95
    assert metrics.per_class[3]["mask_AP"] == -1.0 and "absent" in metrics.table()


def test_the_truth_itself_scores_one(records, rng):
    truth = coco.ground_truth(records, LABELS)
    found = detections(records, rng, noise=0, wrong=0.0, copies=1)
    metrics = coco.evaluate(truth, found, LABELS)
    assert metrics.mask["AP"] == pytest.approx(1.0) and metrics.box["AP"] == pytest.approx(1.0)


def test_no_detections_is_zero_with_a_message(records):
    metrics = coco.evaluate(coco.ground_truth(records, LABELS), [], LABELS)
    assert set(metrics.mask.values()) == set(metrics.box.values()) == {0.0}
    assert "no detections" in metrics.table()


def test_faults_are_named(records, rng):
    truth, found = coco.ground_truth(records, LABELS), detections(records, rng)
    with pytest.raises(FcisError, match="1 image ids are not in the ground truth, first 999"):
        coco.evaluate(truth, [*found, found[0] | {"image_id": 999}], LABELS)
    with pytest.raises(FcisError, match="not a finite number"):
        coco.evaluate(truth, [found[0] | {"score": float("nan")}], LABELS)
    with pytest.raises(FcisError, match="no instance"):
        coco.evaluate(coco.ground_truth([], LABELS), found, LABELS)


def test_image_ids_that_are_no_numbers_are_numbered(records):
    named = [r._replace(image_id=f"scan_{r.image_id}") for r in records]
    truth = coco.ground_truth(named, LABELS)
    assert [i["id"] for i in truth["images"]] == list(range(1, 9))
    assert truth["images"][2]["source_id"] == "scan_12"
    assert {a["image_id"] for a in truth["annotations"]} == set(range(1, 9))


def test_pycocotools_loads_the_saved_results(records, rng, tmp_path, capsys):
    truth, found = coco.ground_truth(records, LABELS), detections(records, rng)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    coco.save_results(found, tmp_path / "results.json")
    gold = COCO(str(tmp_path / "truth.json"))
    loaded = gold.loadRes(str(tmp_path / "results.json"))
    capsys.readouterr()
    assert len(loaded.anns) == len(found)
    assert [p.name for p in tmp_path.glob("partial*")] == []
