import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fcis_tf.errors import FcisError
from fcis_tf.evaluation import coco
from fcis_tf.files import write_json
from fcis_tf.labels import Labels
from tests import fixtures
from tests.evaluation.sets import LABELS
from tests.evaluation.sets import noisy as detections


@pytest.fixture
def records(rng):
    return [fixtures.make_record(rng, str(n + 10), instances=4, crowds=n % 2) for n in range(8)]


def enlarged(record, factor):
    """The record with every side `factor` times as long."""
    instances = tuple(
        i._replace(
            box=tuple(factor * side for side in i.box),
            mask=np.kron(i.mask, np.ones((factor, factor), np.uint8)),
            area=factor**2 * i.area,
        )
        for i in record.instances
    )
    height, width = factor * record.height, factor * record.width
    return record._replace(instances=instances, height=height, width=width)


def test_all_statistics_equal_pycocotools(records, rng):
    records = [enlarged(record, 2 ** (n % 4)) for n, record in enumerate(records)]  # all sizes
    truth = coco.ground_truth([*records, records[0]._replace(image_id="99", instances=())], LABELS)
    found = detections(records, rng) + detections(records[:1], rng, copies=40)
    found.append(found[0] | {"image_id": 99})  # a false alarm in an image without instances
    assert sum(row["image_id"] == 10 for row in found) > 100  # more than count
    metrics = coco.evaluate(truth, found, LABELS)
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = truth
        gold.createIndex()
        for kind, ours in (("segm", metrics.mask), ("bbox", metrics.box)):
            # A result with both is taken for as large as its box, which is not a mask's size.
            other = {"segm": "bbox", "bbox": "segmentation"}[kind]
            loaded = gold.loadRes([{k: v for k, v in r.items() if k != other} for r in found])
            reference = COCOeval(gold, loaded, kind)
            reference.evaluate()
            reference.accumulate()
            reference.summarize()
            np.testing.assert_allclose(list(ours.values()), reference.stats, atol=1e-9)
            for number, row in enumerate(metrics.per_class):
                precision = reference.eval["precision"][:, :, number, 0, -1]
                expected = precision.mean() if (precision > -1).all() else -1
                name = "mask_AP" if kind == "segm" else "box_AP"
                np.testing.assert_allclose(row[name], expected, atol=1e-9)
                if kind == "segm":
                    np.testing.assert_allclose(row["mask_AP50"], precision[0].mean(), atol=1e-9)
    assert all(0.02 < value < 0.98 for value in [*metrics.mask.values(), *metrics.box.values()])
    assert metrics.per_class[3]["mask_AP"] == -1.0 and "absent" in metrics.table()


def test_the_truth_itself_scores_one(records, rng):
    truth = coco.ground_truth(records, LABELS)
    found = detections(records, rng, noise=0, wrong=0.0, copies=1)
    metrics = coco.evaluate(truth, found, LABELS)
    assert metrics.mask["AP"] == pytest.approx(1.0) and metrics.box["AP"] == pytest.approx(1.0)


def test_no_detections_is_zero_with_a_message(records):
    metrics = coco.evaluate(coco.ground_truth(records, LABELS), [], LABELS)
    for values in (metrics.mask, metrics.box):
        measured = {name: value for name, value in values.items() if name[-1] not in "ml"}
        assert set(measured.values()) == {0.0}
        assert values["APl"] == values["ARl"] == -1.0  # no instance is large
    assert [row["mask_AP"] for row in metrics.per_class] == [0.0, 0.0, 0.0, -1.0]
    assert "no detections" in metrics.table()


def test_faults_are_named(records, rng):
    truth, found = coco.ground_truth(records, LABELS), detections(records, rng)
    with pytest.raises(FcisError, match="1 image ids are not in the ground truth, first 999"):
        coco.evaluate(truth, [*found, found[0] | {"image_id": 999}], LABELS)
    with pytest.raises(FcisError, match="1 category ids are not in the labels, first 4"):
        coco.evaluate(truth, [*found, found[0] | {"category_id": 4}], LABELS)
    with pytest.raises(FcisError, match="not a finite number"):
        coco.evaluate(truth, [found[0] | {"score": float("nan")}], LABELS)
    turned = coco.encode_mask(np.ones((80, 60), bool))
    with pytest.raises(FcisError, match=r"is \[60, 80\] .* found a mask of \[80, 60\]"):
        coco.evaluate(truth, [found[0] | {"segmentation": turned}], LABELS)
    with pytest.raises(FcisError, match="ground truth has category ids 3, 7, 9, ..."):
        coco.evaluate(truth, found, Labels((3,), ("disc",)))
    with pytest.raises(FcisError, match="image 10: category id . .* not among the 1 classes"):
        coco.ground_truth(records, Labels((1,), ("else",)))


def test_without_instances_there_is_nothing_to_measure(records):
    with pytest.raises(FcisError, match="no instance"):
        coco.evaluate(coco.ground_truth([], LABELS), [], LABELS)
    crowds = [
        r._replace(instances=tuple(i._replace(crowd=True) for i in r.instances)) for r in records
    ]
    with pytest.raises(FcisError, match="no instance other than crowds"):
        coco.evaluate(coco.ground_truth(crowds, LABELS), [], LABELS)


@pytest.mark.parametrize(
    "names", [["scan_1", "2"], ["007", "7"], ["7", "7"], ["²", "3"]], ids="-".join
)
def test_image_ids_that_are_not_distinct_numbers_are_numbered(records, names):
    named = [r._replace(image_id=name) for r, name in zip(records, names, strict=False)]
    truth = coco.ground_truth(named, LABELS)
    assert [(i["id"], i["source_id"]) for i in truth["images"]] == list(enumerate(names, start=1))
    owners = [a["image_id"] for a in truth["annotations"]]
    assert owners == [n for n, r in enumerate(named, start=1) for _ in r.instances]


def test_numeric_image_ids_stay(records):
    truth = coco.ground_truth(records, LABELS)
    assert [i["id"] for i in truth["images"]] == [int(r.image_id) for r in records]
    assert {a["image_id"] for a in truth["annotations"]} == {int(r.image_id) for r in records}


def test_pycocotools_loads_the_saved_results(records, rng, tmp_path, capsys):
    truth, found = coco.ground_truth(records, LABELS), detections(records, rng)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    write_json(tmp_path / "results.json", found, indent=None)
    gold = COCO(str(tmp_path / "truth.json"))
    loaded = gold.loadRes(str(tmp_path / "results.json"))
    capsys.readouterr()
    assert len(loaded.anns) == len(found)
    assert [p.name for p in tmp_path.glob("partial*")] == []
