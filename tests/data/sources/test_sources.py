"""Every source against the same truth, and all through the same converter."""

import json
import pickle
import shutil

import numpy as np
import pytest

from fcis_tf.data.convert.converter import convert
from fcis_tf.data.convert.manifest import verify
from fcis_tf.data.convert.report import Report
from fcis_tf.data.records import encode, read_records
from fcis_tf.data.shapes import generate_shapes
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.kinds import read_source
from fcis_tf.data.sources.labelme import read_labelme
from fcis_tf.errors import FcisError
from fcis_tf.labels import VOC_NAMES
from tests.fixtures import tight_box
from tests.layouts import truth_of, write_labelme, write_masks, write_sbd, write_voc

IMAGES = 5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One data set in every layout."""
    root = tmp_path_factory.mktemp("layouts")
    generate_shapes(root / "coco", train=IMAGES, validation=1, size=96, seed=5)
    truth = root / "coco"
    write_labelme(truth, root / "labelme")
    write_labelme(truth, root / "bitmaps", bitmaps=True)
    for layout in ("number", "folder", "bowl"):
        write_masks(truth, root / layout, layout)
    write_sbd(truth, root / "sbd")
    write_voc(truth, root / "voc")
    return root


# Kind and options of each layout, and a file or folder of its labels.
KINDS = {
    "coco": ("coco", {}, "train.json"),
    "labelme": ("labelme", {}, "000002.json"),
    "bitmaps": ("labelme", {}, "000002.json"),
    "number": ("masks", {}, "masks/000002"),
    "folder": ("masks", {}, "masks/000002"),
    "bowl": ("masks", {"single_class": "x"}, "000002/masks"),
    "sbd": ("sbd", {}, "inst/000002.mat"),
    "voc": ("voc", {}, "SegmentationObject/000002.png"),
}
LAYOUTS = tuple(KINDS)


def given(root, layout):
    """Kind and folder of a layout, and its options."""
    kind, options, _ = KINDS[layout]
    if kind == "coco":
        return (kind, root / layout / "train"), {"annotations": root / layout / "train.json"}
    return (kind, root / layout), options


def convert_layout(root, layout, out, **options):
    (kind, folder), own = given(root, layout)
    return convert(kind, folder, out, **own | options)


def listed(root, layout):
    where, options = given(root, layout)
    return read_source(*where, Report().add_fault, **options)


def contents(out):
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def expected_name(layout, name, category):
    if layout in ("sbd", "voc"):
        return VOC_NAMES[category - 1]
    return "x" if layout == "bowl" else name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_same_labels_gives_the_same_records(folders, tmp_path, layout):
    report = convert_layout(folders, layout, tmp_path / "out")
    records = list(read_records(tmp_path / "out"))
    truth = truth_of(folders / "coco")
    assert not report.reasons and len(records) == len(truth) == IMAGES
    for record, (file_name, instances) in zip(records, truth, strict=True):
        assert record.encoded == (folders / "coco" / "train" / file_name).read_bytes()
        assert record.image_id.rjust(6, "0") == file_name.removesuffix(".jpg")
        found = [(i.name, i.mask.tobytes(), i.box, i.area) for i in record.instances]
        wanted = []
        for name, category, mask in instances:
            seen = mask.copy()
            if layout == "voc":
                seen[:, 0] = 0  # the void rim
            wanted.append((expected_name(layout, name, category), seen.tobytes(), tight_box(seen)))
        for one, (name, mask, box) in zip(sorted(found), sorted(wanted), strict=True):
            assert one[:2] == (name, mask)
            np.testing.assert_allclose(one[2], box, atol=1e-4)


def test_labelme_outlines_of_the_fixture_have_parts(folders):
    """Otherwise the test above would not see whether a group is one instance."""
    groups = [
        shape["group_id"]
        for file in (folders / "labelme").glob("*.json")
        for shape in json.loads(file.read_text())["shapes"]
    ]
    assert None in groups and any(group is not None for group in groups)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_shards_and_verify_work_for_every_source(folders, tmp_path, layout):
    source = shutil.copytree(folders / layout, tmp_path / "source" / layout)
    root, labels = source.parent, KINDS[layout][-1]
    convert_layout(root, layout, tmp_path / "whole", shards=3)
    missing = [
        convert_layout(root, layout, tmp_path / "out", shards=3, part=(n, 2)).missing
        for n in (1, 2)
    ]
    assert missing == [1, 0] and contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert verify(tmp_path / "out", listed(root, layout).origin) == 3
    assert convert_layout(root, layout, tmp_path / "out", shards=3).kept == 3
    # A change of the labels is noticed even if nothing of it shows in the file's size.
    file = next(p for p in sorted([source / labels, *(source / labels).rglob("*")]) if p.is_file())
    changed = bytearray(file.read_bytes())
    if file.suffix == ".json":
        changed = changed.replace(b'"iscrowd": 0', b'"iscrowd": 1', 1)
        changed = changed.replace(b'"version": "5.5.0"', b'"version": "5.5.1"', 1)
    else:
        changed[-1] ^= 1
    file.write_bytes(changed)
    with pytest.raises(FcisError, match=r"made from another source \(sha256 differ\)"):
        verify(tmp_path / "out", listed(root, layout).origin)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_items_and_loaders_travel_to_other_processes(folders, layout):
    """The converter's processes get them pickled; test_converter.py runs the processes."""
    source = listed(folders, layout)
    for item, copy in zip(source.items, pickle.loads(pickle.dumps(source)).items, strict=True):
        load = pickle.loads(pickle.dumps(source.load))
        records = [
            f(i, source.labels, Report().add_fault) for f, i in ((source.load, item), (load, copy))
        ]
        assert encode(records[0]) == encode(records[1])


@pytest.mark.parametrize("layout", ["labelme", "number", "bowl", "sbd", "voc"])
def test_a_list_chooses_images_and_classes_stay_those_of_all(folders, tmp_path, layout):
    (tmp_path / "some.txt").write_text("000004.jpg\n\n000002\n000004\nabsent\n")
    report = convert_layout(folders, layout, tmp_path / "some", list=tmp_path / "some.txt")
    assert [r.image_id for r in read_records(tmp_path / "some")] == ["000004", "000002"]
    assert report.reasons == {faults.DUPLICATE_IMAGE: 1, faults.NOT_THERE: 1}
    assert report.examples[faults.NOT_THERE] == ["absent"]
    convert_layout(folders, layout, tmp_path / "all")
    names = [(tmp_path / out / "labels.json").read_text() for out in ("some", "all")]
    assert names[0] == names[1]


@pytest.mark.parametrize("text", ["", "\n \n", None, b"\xff\xfe"])
def test_a_list_without_names_is_refused(folders, tmp_path, text):
    file = tmp_path / "list.txt"
    if isinstance(text, bytes):
        file.write_bytes(text)
    elif text is not None:
        file.write_text(text)
    with pytest.raises(FcisError, match="list.txt: "):
        read_labelme(folders / "labelme", print, list=file)
