import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fcis_tf.data.convert.converter import convert
from fcis_tf.data.records import read_records
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.voc import read_voc
from fcis_tf.errors import FcisError
from fcis_tf.labels import VOC_NAMES

SIZE = (30, 50)


def maps(*objects):
    """Maps of instances and classes from (number, class, y0, x0, y1, x1), the later ones on top."""
    numbers, classes = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    for number, category, y0, x0, y1, x1 in objects:
        numbers[y0:y1, x0:x1], classes[y0:y1, x0:x1] = number, category
    return numbers, classes


GOOD = maps((1, 15, 2, 3, 20, 11), (2, 15, 2, 11, 20, 30), (3, 20, 22, 0, 30, 50))


def add(folder, name, numbers, classes, size=SIZE):
    for part in ("img", "inst", "cls"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "img" / f"{name}.jpg")
    for part, key, values in (("inst", "GTinst", numbers), ("cls", "GTcls", classes)):
        savemat(folder / part / f"{name}.mat", {key: {"Segmentation": values}})


def run(folder, out, **options):
    report = convert("voc", folder, out, **options)
    return report, list(read_records(out))


def test_instances_are_the_numbers_of_one_map_and_classes_those_of_the_other(tmp_path):
    add(tmp_path / "in", "2008_000001", *GOOD)
    report, (record,) = run(tmp_path / "in", tmp_path / "out", strict=True)
    assert not report.reasons and record.image_id == "2008_000001"
    assert [(i.category_id, i.name, i.crowd) for i in record.instances] == [
        (15, "person", False), (15, "person", False), (20, "tvmonitor", False)
    ]  # fmt: skip
    boxes = [(2, 3, 20, 11), (2, 11, 20, 30), (22, 0, 30, 50)]
    for instance, box in zip(record.instances, boxes, strict=True):
        np.testing.assert_allclose(instance.box, box, atol=1e-4)
    assert [i.area for i in record.instances] == [144, 342, 400]
    assert VOC_NAMES[14] == "person" and VOC_NAMES[19] == "tvmonitor" and len(VOC_NAMES) == 20


def test_void_is_no_instance_and_its_pixels_no_class(tmp_path):
    numbers, classes = maps((1, 7, 2, 3, 20, 11))
    numbers[:, 10] = classes[:, 10] = 255
    classes[2:20, 3] = 255  # a rim inside the instance
    classes[2:4, 4] = 9  # two pixels of its neighbour
    add(tmp_path / "in", "a", numbers, classes)
    report, (record,) = run(tmp_path / "in", tmp_path / "out", strict=True)
    assert report.reasons == {faults.MIXED: 1}
    assert [(i.name, i.area) for i in record.instances] == [("car", 18 * 7)]


def test_the_class_is_that_of_the_pixels_that_have_one(tmp_path):
    numbers, classes = maps((1, 7, 2, 3, 20, 11))
    classes[2:15] = np.where(numbers[2:15], 255, 0)  # most of it is void
    add(tmp_path / "in", "a", numbers, classes)
    report, (record,) = run(tmp_path / "in", tmp_path / "out", strict=True)
    assert not report.reasons and [(i.name, i.area) for i in record.instances] == [("car", 144)]


def test_faults_are_counted_by_reason(tmp_path):
    """One of each; the counts are those of the defects put in."""
    folder = tmp_path / "in"
    names = ("good", "absent", "swapped", "nocls", "size", "maps", "void", "class", "empty", "text")
    for name in names:
        add(folder, name, *GOOD)
    (folder / "img" / "absent.jpg").unlink()
    shutil.copy(folder / "cls" / "good.mat", folder / "inst" / "swapped.mat")
    (folder / "cls" / "nocls.mat").unlink()
    add(folder, "size", *GOOD, size=(SIZE[0], SIZE[1] + 1))
    add(folder, "maps", GOOD[0], GOOD[1][:-1])
    add(folder, "void", GOOD[0], np.where(GOOD[0] == 2, 255, GOOD[1]))
    add(folder, "class", GOOD[0], np.where(GOOD[0] == 2, 21, GOOD[1]))
    add(folder, "empty", *maps())
    (folder / "inst" / "text.mat").write_text("no MATLAB file")
    (folder / "all.txt").write_text("\n".join([*names, "unheard-of"]))
    report, records = run(folder, tmp_path / "out", list="all")
    assert report.reasons == {
        faults.MISSING: 1, faults.BAD_LABELS: 4, faults.OTHER_SIZE: 1, faults.UNKNOWN_CATEGORY: 2,
        faults.NO_INSTANCES: 1, faults.NOT_THERE: 1,
    }  # fmt: skip
    assert {r.image_id: len(r.instances) for r in records} == {
        "good": 3, "void": 2, "class": 2, "empty": 0
    }  # fmt: skip
    assert any("no GTinst in it" in text for text in report.examples[faults.BAD_LABELS])
    with pytest.raises(FcisError, match="--strict stops here"):
        run(folder, tmp_path / "strict", list="all", strict=True)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_map_loses_one_image_and_does_not_stop(tmp_path, compressed):
    folder = tmp_path / "in"
    for n in range(12):
        add(folder, f"{n:02d}", *GOOD)
        file = folder / "inst" / f"{n:02d}.mat"
        savemat(file, {"GTinst": {"Segmentation": GOOD[0]}}, do_compression=compressed)
        whole = file.read_bytes()
        if n:
            file.write_bytes(whole[: len(whole) * n // 12])
    report, records = run(folder, tmp_path / "out")
    assert [r.image_id for r in records] == ["00"]
    assert report.reasons == {faults.BAD_LABELS: 11}


def test_a_png_of_colours_is_no_map(tmp_path):
    for name in ("JPEGImages", "SegmentationObject", "SegmentationClass"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for stem in ("a", "b"):
            suffix = "jpg" if name == "JPEGImages" else "png"
            Image.fromarray(GOOD[0]).save(tmp_path / "in" / name / f"{stem}.{suffix}")
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "in" / "SegmentationObject" / "b.png")
    report, records = run(tmp_path / "in", tmp_path / "out")
    assert [r.image_id for r in records] == ["a"]
    assert "found mode RGB" in report.examples[faults.BAD_LABELS][0]


def test_lists_are_files_or_names_of_the_data_set(tmp_path):
    folder = tmp_path / "in"
    for name in ("a", "b", "c"):
        add(folder, name, *GOOD)
    (folder / "train.txt").write_text("c  1\nb -1\n")
    (tmp_path / "mine.txt").write_text("a\n")

    def chosen(images):
        return [item.image_id for item in read_voc(folder, print, list=images).items]

    assert chosen("train") == ["c", "b"] and chosen(str(tmp_path / "mine.txt")) == ["a"]
    assert chosen(None) == ["a", "b", "c"]
    with pytest.raises(FcisError, match=r"list val: no such file, and no list .* \['train'\]"):
        chosen("val")


def test_another_layout_is_refused_and_missing_scipy_explained(tmp_path, monkeypatch):
    with pytest.raises(FcisError, match="expected SBD's img/.* or VOC's JPEGImages"):
        read_voc(tmp_path, print)
    add(tmp_path, "a", *GOOD)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(FcisError, match=r"need SciPy.*pip install 'fcis_tf\[sbd\]'"):
        read_voc(tmp_path, print)
