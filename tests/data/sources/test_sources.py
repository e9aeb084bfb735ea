"""Every source against the same truth, and all through the same converter."""

import json
import pickle
import shutil
from functools import partial

import numpy as np
import pytest

from fcis_tf.data.convert.converter import convert
from fcis_tf.data.convert.manifest import verify
from fcis_tf.data.convert.report import Report
from fcis_tf.data.records import encode, read_records
from fcis_tf.data.shapes import generate_shapes
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.coco import read_coco
from fcis_tf.data.sources.labelme import read_labelme
from fcis_tf.data.sources.masks import read_masks
from fcis_tf.data.sources.voc import read_sbd
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


def reader(root, layout):
    """The reader of a layout, and a file of its labels."""
    folder = root / layout
    return {
        "coco": lambda: (partial(read_coco, folder / "train", folder / "train.json"), "train.json"),
        "labelme": lambda: (partial(read_labelme, folder), "000002.json"),
        "bitmaps": lambda: (partial(read_labelme, folder), "000002.json"),
        "number": lambda: (partial(read_masks, folder), "masks/000002"),
        "folder": lambda: (partial(read_masks, folder), "masks/000002"),
        "bowl": lambda: (partial(read_masks, folder, single_class="x"), "000002/masks"),
        "sbd": lambda: (partial(read_sbd, folder), "inst/000002.mat"),
        "voc": lambda: (partial(read_sbd, folder), "SegmentationObject/000002.png"),
    }[layout]()


LAYOUTS = ("coco", "labelme", "bitmaps", "number", "folder", "bowl", "sbd", "voc")


def contents(out):
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def expected_name(layout, name, category):
    if layout in ("sbd", "voc"):
        return VOC_NAMES[category - 1]
    return "x" if layout == "bowl" else name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_same_labels_gives_the_same_records(folders, tmp_path, layout):
    report = convert(reader(folders, layout)[0], tmp_path / "out").report
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
    read, labels = reader(source.parent, layout)
    convert(read, tmp_path / "whole", shards=3)
    missing = [convert(read, tmp_path / "out", shards=3, part=(n, 2)).missing for n in (1, 2)]
    assert missing == [1, 0] and contents(tmp_path / "out") == contents(tmp_path / "whole")
    origin = read(Report().add_fault).origin
    assert verify(tmp_path / "out", origin) == 3
    assert convert(read, tmp_path / "out", shards=3).kept == 3
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
        verify(tmp_path / "out", read(Report().add_fault).origin)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_items_and_loaders_travel_to_other_processes(folders, layout):
    """The converter's processes get them pickled; test_convert.py runs the processes."""
    source = reader(folders, layout)[0](Report().add_fault)
    for item, copy in zip(source.items, pickle.loads(pickle.dumps(source)).items, strict=True):
        load = pickle.loads(pickle.dumps(source.load))
        records = [
            f(i, source.labels, Report().add_fault) for f, i in ((source.load, item), (load, copy))
        ]
        assert encode(records[0]) == encode(records[1])


@pytest.mark.parametrize("layout", ["labelme", "number", "bowl", "sbd", "voc"])
def test_a_list_chooses_images_and_classes_stay_those_of_all(folders, tmp_path, layout):
    read, _ = reader(folders, layout)
    (tmp_path / "some.txt").write_text("000004.jpg\n\n000002\n000004\nabsent\n")
    report = convert(partial(read, images=tmp_path / "some.txt"), tmp_path / "some").report
    assert [r.image_id for r in read_records(tmp_path / "some")] == ["000004", "000002"]
    assert report.reasons == {faults.DUPLICATE_IMAGE: 1, faults.NOT_THERE: 1}
    assert report.examples[faults.NOT_THERE] == ["absent"]
    convert(read, tmp_path / "all")
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
        read_labelme(folders / "labelme", print, images=file)
