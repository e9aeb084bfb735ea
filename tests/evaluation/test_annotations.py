import json

import pytest

from fcis_tf.errors import FcisError
from fcis_tf.evaluation.annotations import load_annotations
from tests.evaluation.sets import LABELS, square, truth_of


def loaded(content, tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return load_annotations(tmp_path / "truth.json")


@pytest.fixture
def content():
    return truth_of([(square(5, 5), 3), (square(20, 30), 7, True)], [])


def test_a_complete_data_set_stays_as_it_is(content, tmp_path):
    truth, labels = loaded(content, tmp_path)
    assert truth["annotations"] == content["annotations"] and labels == LABELS
    assert [image["source_id"] for image in truth["images"]] == ["1", "2"]


def test_what_other_tools_leave_out_is_taken_from_the_mask(content, tmp_path):
    whole = content["annotations"][0]
    short = {k: whole[k] for k in ("image_id", "category_id")}
    short["segmentation"] = [[5, 5, 15, 5, 15, 15, 5, 15]]
    truth, _ = loaded(content | {"annotations": [short]}, tmp_path)
    assert truth["annotations"] == [whole]


def test_without_masks_there_are_boxes(content, tmp_path):
    rows = [
        {k: v for k, v in r.items() if k not in ("segmentation", "area")}
        for r in content["annotations"]
    ]
    truth, _ = loaded(content | {"annotations": rows}, tmp_path)
    assert [row["area"] for row in truth["annotations"]] == [100.0, 100.0]
    assert not any("segmentation" in row for row in truth["annotations"])
    with pytest.raises(FcisError, match="1 of 2 annotations have no segmentation"):
        loaded(content | {"annotations": [rows[0], content["annotations"][1]]}, tmp_path)


def test_names_as_image_ids_are_numbered(content, tmp_path):
    for row in (*content["images"], *content["annotations"]):
        key = "id" if "file_name" in row else "image_id"
        row[key] = {1: "first", 2: "second"}[row[key]]
    truth, _ = loaded(content, tmp_path)
    assert [(i["id"], i["source_id"]) for i in truth["images"]] == [(1, "first"), (2, "second")]
    assert {row["image_id"] for row in truth["annotations"]} == {1}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c.pop("images"), "expected a COCO data set with the list 'images'"),
        (lambda c: c["images"][0].pop("height"), r"images\[0\]: expected whole numbers height"),
        (lambda c: c["images"][1].update(id=1), "1 image ids appear twice"),
        (lambda c: c["annotations"][0].update(image_id=9), "annotation 1: image_id 9 is not"),
        (
            lambda c: c["annotations"][0].update(image_id=[1]),
            r"annotation 1: image_id \[1\] is not",
        ),
        (lambda c: c["annotations"].append(7), r"annotations\[2\]: expected an object, found 7"),
        (lambda c: c["annotations"][0].update(category_id=1), "category_id 1 is not among"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "is not polygons or RLE"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, "3", 4]), r"expected bbox \[x, y"),
    ],
)
def test_faults_are_named_with_the_file(content, tmp_path, spoil, words):
    spoil(content)
    with pytest.raises(FcisError, match=rf"truth\.json: .*{words}"):
        loaded(content, tmp_path)
