import json
import math

import pytest

from fcis_tf.errors import FcisError
from fcis_tf.evaluation import coco
from fcis_tf.evaluation.results import load_results
from tests.evaluation.sets import LABELS, rows, square, truth_of

TURNED, DAMAGED = ({"size": s, "counts": c} for s, c in (([80, 60], "PPc4"), ([60, 80], "abc")))
MASKS = [square(5, 5), square(20, 30), square(40, 60)]


@pytest.fixture
def truth():
    return truth_of([(mask, 3) for mask in MASKS], [(MASKS[0], 7)])


@pytest.fixture
def found():
    return rows(1, MASKS, [3, 3, 7], [0.9, 0.8, 0.7])


def loaded(truth, content, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_results(file, truth, LABELS)


def test_what_was_saved_is_read(truth, found, tmp_path):
    assert loaded(truth, found, tmp_path) == found


def test_a_list_without_results_is_no_fault(truth, tmp_path):
    assert loaded(truth, [], tmp_path) == []


def change(found, **values):
    return [found[0] | values, *found[1:]]


def lacking(found, key):
    return [{k: v for k, v in found[0].items() if k != key}, *found[1:]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: "[{", "not a JSON file"),
        (lambda f: {"images": [], "annotations": []}, "a COCO data set goes to --annotations"),
        (lambda f: 3, "expected a list of results, found int"),
        (lambda f: [*f, 7], "result 3: expected an object, found 7"),
        (lambda f: lacking(f, "score"), "result 0: lacks score"),
        (lambda f: lacking(f, "image_id"), "result 0: lacks image_id"),
        (lambda f: change(f, score=math.nan), "image 1 has score nan"),
        (lambda f: change(f, score="0.9"), "image 1 has score '0.9'"),
        (lambda f: change(f, image_id=8), "ids are not in the ground truth, first 8; it has 1, 2"),
        (lambda f: change(f, image_id=[1]), r"result 0: image_id \[1\] is no number or name"),
        (lambda f: change(f, category_id=1), "not in the labels, first 1; they have 3, 7, 9"),
        (lambda f: change(f, segmentation=TURNED), r"\(height, width\), .* mask of \[80, 60\]"),
        (lambda f: change(f, segmentation=DAMAGED), "neither RLE nor polygons"),
        (lambda f: change(f, segmentation=[[1, 2]]), "neither RLE nor polygons"),
        (lambda f: lacking(f, "segmentation"), "1 of 3 results have no segm.*, first result 0"),
        (lambda f: change(f, bbox=[1, 2, 3]), r"expected bbox \[x, y, width, height\]"),
        (lambda f: lacking(lacking(f, "segmentation"), "bbox"), "expected bbox"),
        (lambda f: change(f, bbox=[1, 2, -3, 4]), "negative width or height"),
    ],
)  # fmt: skip
def test_faults_are_named_with_the_file(truth, found, tmp_path, make, words):
    with pytest.raises(FcisError, match=rf"results\.json: .*{words}"):
        loaded(truth, make(found), tmp_path)


@pytest.mark.parametrize("masks", [True, False])
def test_boxes_of_another_convention_are_recognized(truth, found, tmp_path, masks):
    def boxes(convert):
        kept = (
            found if masks else [{k: v for k, v in r.items() if k != "segmentation"} for r in found]
        )
        return [row | {"bbox": convert(*row["bbox"])} for row in kept]

    with pytest.raises(FcisError, match=r"seem to be \[x0, y0, x1, y1\]: .* set width = x1 - x0"):
        loaded(truth, boxes(lambda x, y, w, h: [x, y, x + w, y + h]), tmp_path)
    with pytest.raises(FcisError, match=r"all numbers are within 0\.\.1"):
        loaded(truth, boxes(lambda x, y, w, h: [x / 80, y / 60, w / 80, h / 60]), tmp_path)
    assert len(loaded(truth, boxes(lambda x, y, w, h: [x, y, w + 0.5, h]), tmp_path)) == 3


def test_masks_in_any_of_coco_s_forms(truth, found, tmp_path):
    x, y, w, h = found[0]["bbox"]
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    runs = [int(x) * 60 + int(y)]
    for _ in range(int(w) - 1):
        runs += [int(h), 60 - int(h)]
    runs += [int(h), 60 * 80 - sum(runs) - int(h)]
    for form in (polygon, {"size": [60, 80], "counts": runs}):
        row = {k: v for k, v in found[0].items() if k != "bbox"} | {"segmentation": form}
        assert loaded(truth, [row], tmp_path) == [found[0]]


def test_numbers_with_a_point_are_the_same_ids(truth, found, tmp_path):
    floats = [row | {"image_id": 1.0, "category_id": float(row["category_id"])} for row in found]
    ours, wanted = (
        json.dumps(rows, sort_keys=True) for rows in (loaded(truth, floats, tmp_path), found)
    )
    assert ours == wanted


def test_images_may_be_named_by_their_file(truth, found, tmp_path):
    named = [row | {"image_id": "1.png"} for row in found]
    assert loaded(truth, named, tmp_path) == found
    truth["images"][1]["file_name"] = "1.png"  # two images of one name
    with pytest.raises(FcisError, match="1 image ids are not in the ground truth"):
        loaded(truth, named, tmp_path)


def test_boxes_alone_are_scored_as_boxes(truth, found, tmp_path):
    from fcis_tf.evaluation.measure import BOXES_ONLY, measure

    alone = [{k: v for k, v in row.items() if k != "segmentation"} for row in found]
    metrics = measure(truth, loaded(truth, alone, tmp_path), LABELS).metrics
    assert metrics.box == coco.evaluate(truth, found, LABELS).box
    assert metrics.mask == metrics.boundary == metrics.voc == {} and metrics.message == BOXES_ONLY
    assert BOXES_ONLY in metrics.table() and "boundary" not in metrics.table()
