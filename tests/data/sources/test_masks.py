import numpy as np
import pytest
from PIL import Image

from fcis_tf.data.convert.converter import convert
from fcis_tf.data.records import read_records
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.masks import read_masks
from fcis_tf.errors import FcisError
from tests.fixtures import disc

SIZE = (40, 60)


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path, x=20, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(disc(*size, 20, x, 8) * 255).save(path)


def run(folder, out, **options):
    report = convert("masks", folder, out, **options)
    return report, list(read_records(out))


def test_the_class_is_in_the_name_of_the_file_or_of_its_folder(tmp_path):
    folder = tmp_path / "in"
    picture(folder / "images" / "a.png")
    for name in ("cat_1.png", "traffic light_07.png", "big_dog_2.png", "cow/1.png", "cow/x_2.png"):
        mask(folder / "masks" / "a" / name)
    report, (record,) = run(folder, tmp_path / "out")
    assert not report.reasons
    assert [i.name for i in record.instances] == ["big_dog", "cat", "cow", "cow", "traffic light"]
    assert {i.name: i.category_id for i in record.instances} == {
        "big_dog": 1, "cat": 2, "cow": 3, "traffic light": 4,
    }  # fmt: skip
    assert {i.name for i in run(folder, tmp_path / "one", single_class="x")[1][0].instances} == {
        "x"
    }
    mask(folder / "masks" / "a" / "0001.png")
    with pytest.raises(FcisError, match=r"0001.png: expected CLASS_NUMBER.png.* --class"):
        run(folder, tmp_path / "none")


def test_faults_are_counted_by_reason(tmp_path):
    """One of each; the counts are those of the defects put in."""
    folder = tmp_path / "in"
    images, masks = folder / "images", folder / "masks"
    for name in ("good", "some", "empty", "unlabelled", "unlike"):
        picture(images / f"{name}.png")
    picture(images / "good.jpg")
    picture(images / "nested" / "deep.png")
    mask(masks / "nested" / "deep" / "a" / "1.png")
    (images / "text.jpg").write_text("no image")
    for name in ("good", "some", "text", "absent", "nested/absent"):
        mask(masks / name / "a_1.png")
    mask(masks / "some" / "a_2.png", size=(40, 61))
    Image.new("L", SIZE[::-1]).save(masks / "some" / "a_3.png")
    (masks / "some" / "a_4.png").write_bytes((masks / "some" / "a_1.png").read_bytes()[:60])
    mask(masks / "some" / "b_1.png")
    (masks / "some" / "notes.txt").write_text("not a mask")
    (masks / "some" / "._a_1.png").write_text("hidden")
    (masks / "empty").mkdir()
    mask(masks / "unlike" / "a_1.png", size=SIZE[::-1])
    (tmp_path / "labels.txt").write_text("a\n")
    report, records = run(folder, tmp_path / "out", labels=tmp_path / "labels.txt")
    assert report.reasons == {
        faults.BAD_MASK: 2, faults.EMPTY_MASK: 1, faults.UNKNOWN_CATEGORY: 1,
        faults.NO_INSTANCES: 1, faults.UNLABELLED: 1, faults.MISSING: 2, faults.UNREADABLE: 1,
        faults.OTHER_SIZE: 1, faults.DUPLICATE_IMAGE: 1,
    }  # fmt: skip
    assert [(r.image_id, len(r.instances)) for r in records] == [
        ("empty", 0), ("good", 1), ("nested/deep", 1), ("some", 1)
    ]  # fmt: skip
    assert report.examples[faults.EMPTY_MASK] == ["mask a_3.png of some"]
    with pytest.raises(FcisError, match="--strict stops here"):
        run(folder, tmp_path / "strict", strict=True, labels=tmp_path / "labels.txt")


def test_a_folder_for_every_image_as_in_the_data_science_bowl(tmp_path):
    folder = tmp_path / "in"
    for name in ("1f", "2e"):
        picture(folder / name / "images" / f"{name}.png")
        for n, x in enumerate((10, 30, 50)):
            mask(folder / name / "masks" / f"{n:064x}.png", x)
    picture(folder / "test" / "images" / "test.png")
    picture(folder / "two" / "images" / "a.png")
    picture(folder / "two" / "images" / "b.png")
    (folder / "readme").mkdir()
    mask(folder / "lost" / "masks" / "1.png")
    report, records = run(folder, tmp_path / "out", single_class="nucleus")
    assert report.reasons == {faults.UNLABELLED: 1, faults.BAD_LABELS: 2}
    assert [(r.image_id, len(r.instances)) for r in records] == [("1f", 3), ("2e", 3)]
    assert report.classes == {"nucleus": 6}


def test_the_size_of_the_masks_decides_whether_a_photograph_was_turned(tmp_path):
    folder = tmp_path / "in"
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size in (("shown", SIZE[::-1]), ("stored", SIZE)):
        picture(folder / "images" / f"{name}.png")
        with Image.open(folder / "images" / f"{name}.png") as image:
            image.save(folder / "images" / f"{name}.png", exif=exif)
        mask(folder / "masks" / name / "a_1.png", size=size)
    report, records = run(folder, tmp_path / "out", strict=True)
    assert report.reasons == {faults.TURNED: 1, faults.STORED: 1}
    assert [(r.height, r.width) for r in records] == [SIZE[::-1], SIZE]


def test_other_layouts_are_refused(tmp_path):
    with pytest.raises(FcisError, match="absent: no such folder"):
        read_masks(tmp_path / "absent", print)
    picture(tmp_path / "a.png")
    with pytest.raises(FcisError, match=r"expected images/ and masks/ .* found neither"):
        read_masks(tmp_path, print)
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(FcisError, match="no image in it has a folder of masks"):
        read_masks(tmp_path, lambda *_: None)
