import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco_mask

from fcis_tf.data.convert import converter
from fcis_tf.data.records import read_records
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.segmentation import BATCH, first_damaged, rasterise
from fcis_tf.errors import FcisError

TRIANGLE = [10.0, 10.0, 40.0, 10.0, 10.0, 40.0]
SECOND = [50.0, 10.0, 70.0, 10.0, 70.0, 30.0, 50.0, 30.0]


def annotation(number, **changes):
    base = {
        "id": number, "image_id": 1, "category_id": 2, "bbox": [10, 10, 30, 30], "area": 450.0,
        "iscrowd": 0, "segmentation": [TRIANGLE],
    }  # fmt: skip
    return base | changes


def write(folder, annotations, images=None):
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.jpg")
    content = {
        "images": images or [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}],
        "annotations": annotations,
        "categories": [{"id": 2, "name": "two"}, {"id": 9, "name": "nine"}],
    }
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


def convert(tmp_path, annotations, images=None, **options):
    labels = write(tmp_path / "images", annotations, images)
    report = converter.convert(
        "coco", tmp_path / "images", tmp_path / "out", annotations=labels, **options
    )
    return report, list(read_records(tmp_path / "out"))


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def test_all_forms_of_segmentation_give_the_same_mask(tmp_path):
    both = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([TRIANGLE, SECOND], 60, 80)))
    flat = both.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.r_[0, changes, flat.size]).tolist()
    packed = rle(both)
    forms = [
        [TRIANGLE, SECOND],
        {"size": [60, 80], "counts": runs},
        {"size": [60, 80], "counts": packed["counts"].decode()},
    ]
    box = [10, 10, 60, 30]
    rows = [annotation(n, segmentation=f, bbox=box) for n, f in enumerate(forms, start=1)]
    rows.append(annotation(4, segmentation=forms[1], bbox=box, iscrowd=1, category_id=9))
    report, (record,) = convert(tmp_path, rows)
    assert not report.reasons and report.crowds == 1 and report.instances == 4
    for instance in record.instances:
        np.testing.assert_array_equal(instance.mask, both)
        np.testing.assert_allclose(instance.box, [10, 10, 40, 70], rtol=1e-6)
    assert [i.crowd for i in record.instances] == [False, False, False, True]
    assert record.instances[3].name == "nine"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": 5}, faults.UNKNOWN_IMAGE),
        ({"category_id": 5}, faults.UNKNOWN_CATEGORY),
        ({"id": 1}, faults.DUPLICATE_ANNOTATION),
        ({"bbox": [float("nan"), 0, 5, 5]}, faults.BAD_BOX),
        ({"bbox": [1, 2, 3]}, faults.BAD_BOX),
        ({"bbox": None}, faults.BAD_BOX),
        ({"segmentation": [[200.0, 200, 300, 200, 300, 300]]}, faults.EMPTY_MASK),
        ({"segmentation": [[10.0, 10, 20, 20, 10, 10]]}, faults.EMPTY_MASK),
        ({"segmentation": [[10.0, 10, 20, 20]]}, faults.BAD_MASK),
        ({"segmentation": []}, faults.BAD_MASK),
        ({"segmentation": None}, faults.BAD_MASK),
        ({"segmentation": [[float("nan")] * 6]}, faults.BAD_MASK),
        ({"segmentation": {"size": [5, 5], "counts": [25]}}, faults.BAD_MASK),
        ({"segmentation": {"size": [60, 80], "counts": [7]}}, faults.BAD_MASK),
        ({"segmentation": {"size": [60, 80], "counts": [-5, 4805]}}, faults.BAD_MASK),
        ({"segmentation": {"size": [60, 80], "counts": [2.5, 4797.5]}}, faults.BAD_MASK),
        ({"segmentation": {"size": [60, 80], "counts": "0"}}, faults.BAD_MASK),
        ({"segmentation": {"size": [60, 80], "counts": ""}}, faults.BAD_MASK),
        ({"segmentation": {"size": [60, 80], "counts": "no digits~"}}, faults.BAD_MASK),
        ({"segmentation": [[0.0, 0, 1e8, 0, 1e8, 1e8]]}, faults.BAD_MASK),
        ({"image_id": [1]}, faults.UNKNOWN_IMAGE),
        ({"category_id": [2]}, faults.UNKNOWN_CATEGORY),
    ],
)
def test_a_faulty_annotation_is_dropped_counted_and_strict_stops(tmp_path, change, reason):
    rows = [annotation(1), annotation(2, **change)]
    report, (record,) = convert(tmp_path, rows)
    assert report.reasons == {reason: 1}
    assert len(record.instances) == 1
    assert reason in str(report) and report.to_dict()["faults"][reason]["count"] == 1
    with pytest.raises(FcisError, match=reason):
        convert(tmp_path, rows, strict=True)


def test_compressed_runs_are_read_as_pycocotools_reads_them(rng):
    for height, width in ((1, 1), (7, 300), (400, 301), (1000, 900)):
        for chance in (0.0, 0.02, 0.5, 1.0):
            blocks = rng.random((height // 9 + 1, width // 9 + 1)) < chance
            mask = np.kron(blocks, np.ones((9, 9)))[:height, :width].astype(np.uint8)
            text = rle(mask)["counts"].decode()
            segmentation = {"size": [height, width], "counts": text}
            np.testing.assert_array_equal(rasterise(segmentation, height, width), mask)
            # Without its last number it is short of pixels, or ends inside a number.
            segmentation["counts"] = text[:-1]
            assert rasterise(segmentation, height, width) is None


def test_damaged_text_is_found_among_many(rng):
    masks = [(rng.random((h, w)) < 0.3).astype(np.uint8) for h, w in ((1, 1), (9, 30), (40, 31))]
    sound = [
        {"size": list(mask.shape), "counts": rle(mask)["counts"].decode()}
        for mask in masks * (BATCH // 2)
    ]
    assert len(sound) > BATCH and first_damaged(sound) is None and first_damaged([]) is None
    texts = ("", "abc", "PPc4", "zzzz", "~~~", "0" * 50, "\u00e9", "1" * 60 + "o" * 20)
    for place, text in enumerate(texts, start=BATCH - 3):
        damaged = {"size": [60, 80], "counts": text}
        assert first_damaged([*sound[:place], damaged, *sound[place:]]) == place
        assert rasterise(damaged, 60, 80) is None
    # The right number of pixels, but one run of -1.
    assert first_damaged([{"size": [1, 3], "counts": "4O"}]) == 0


@pytest.mark.parametrize("area", [None, 0, -3.0, float("nan"), "large", [4]])
def test_an_area_that_is_none_is_counted_from_the_mask(tmp_path, area):
    _, (record,) = convert(tmp_path, [annotation(1, area=area), annotation(2)])
    assert [i.area for i in record.instances] == [record.instances[0].mask.sum(), 450.0]


def test_overhanging_and_empty_boxes_are_kept(tmp_path):
    rows = [
        annotation(1, bbox=[-5, 10, 100, 60]),
        annotation(2, bbox=[10, 10, 0, 0]),
        annotation(3, bbox=[10, 10, 30, 30.005]),
    ]
    report, (record,) = convert(tmp_path, rows, strict=True)
    assert report.reasons == {faults.CLIPPED: 1, faults.MASK_BOX: 1}
    np.testing.assert_allclose(record.instances[0].box, [10, 0, 60, 80], rtol=1e-6)
    rows, columns = (
        record.instances[1].mask.any(1).nonzero()[0],
        record.instances[1].mask.any(0).nonzero()[0],
    )
    expected = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    np.testing.assert_allclose(record.instances[1].box, expected, rtol=1e-6)


def test_unusable_images_are_dropped_and_counted(tmp_path):
    folder = tmp_path / "images"
    write(folder, [])
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:800])
    shutil.copy(folder / "a.jpg", folder / "other.jpg")
    sizes = {"height": 60, "width": 80}
    images = [
        {"id": 1, "file_name": "a.jpg", **sizes},
        {"id": 2, "file_name": "absent.jpg", **sizes},
        {"id": 3, "file_name": "text.jpg", **sizes},
        {"id": 4, "file_name": "cut.jpg", **sizes},
        {"id": 5, "file_name": "other.jpg", "height": 80, "width": 60},
        {"id": 1, "file_name": "a.jpg", **sizes},
    ]
    report, records = convert(tmp_path, [annotation(1)], images)
    assert [r.image_id for r in records] == ["1"] and report.images == 1
    assert report.reasons == {
        faults.MISSING: 1, faults.UNREADABLE: 2, faults.OTHER_SIZE: 1, faults.DUPLICATE_IMAGE: 1,
    }  # fmt: skip


def test_images_are_kept_as_they_are_or_stored_as_png(tmp_path):
    folder = tmp_path / "images"
    write(folder, [])
    pixels = np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "b.bmp")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "c.jpg", exif=exif)
    images = [{"id": n, "file_name": f} for n, f in enumerate(("a.jpg", "b.bmp", "c.jpg"), 1)]
    report, records = convert(tmp_path, [annotation(n, image_id=n) for n in (1, 2)], images)
    assert records[0].encoded == (folder / "a.jpg").read_bytes()
    assert records[1].format == "png" and (records[2].height, records[2].width) == (60, 80)
    assert report.reasons == {faults.REENCODED: 1, faults.STORED: 1, faults.NO_INSTANCES: 1}


def test_sixteen_bits_keep_their_upper_eight_as_tensorflow_reads_them(tmp_path):
    folder = tmp_path / "images"
    write(folder, [])
    pixels = np.random.default_rng(1).integers(0, 2**16, (60, 80)).astype(np.uint16)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels).save(folder / "b.tiff")
    Image.fromarray(pixels.astype(np.float32)).save(folder / "c.tiff")
    names = ("a.png", "b.tiff", "c.tiff")
    images = [{"id": n, "file_name": f} for n, f in enumerate(names, 1)]
    report, records = convert(tmp_path, [annotation(1)], images)
    assert report.reasons == {faults.REENCODED: 3, faults.NO_INSTANCES: 1, faults.UNREADABLE: 1}
    direct = tf.io.decode_png((folder / "a.png").read_bytes(), channels=3)
    np.testing.assert_array_equal(direct[..., 0], pixels >> 8)
    for record in records:
        np.testing.assert_array_equal(tf.io.decode_png(record.encoded, channels=3), direct)


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("lost", [1, 4, 12, 20, 200])
def test_what_training_could_not_decode_is_not_converted(tmp_path, kind, lost):
    folder = tmp_path / "images"
    write(folder, [])
    pixels = np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"cut.{kind}")
    whole = (folder / f"cut.{kind}").read_bytes()
    (folder / f"cut.{kind}").write_bytes(whole[:-lost])
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": f"cut.{kind}"}]
    report, records = convert(tmp_path, [annotation(1)], images)
    for record in records:
        assert tf.io.decode_image(record.encoded).shape == (60, 80, 3)
    assert (report.reasons[faults.UNREADABLE] == 1) == (len(records) == 1)
    if kind == "png" or lost == 200:
        assert len(records) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "not a JSON file"),
        ('{"images": [', "not a JSON file"),
        ("[]", "not a JSON file with an object"),
        ('{"images": [], "annotations": []}', "the list 'categories'"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "lacks"),
        ('{"images": [], "annotations": [], "categories": []}', "nothing to convert"),
        (
            '{"images": [{"id": [1], "file_name": "a"}], "annotations": [], "categories": []}',
            r"images\[0\].id: expected a number or text, found \[1\]",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [], '
            '"categories": [{"id": "x", "name": "a"}]}',
            "x.json: categories: .*'x'",
        ),
    ],
)
def test_a_json_of_another_kind_is_refused(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FcisError, match=words):
        converter.convert("coco", tmp_path, tmp_path / "out", annotations=tmp_path / "x.json")
    with pytest.raises(FcisError, match="no such annotation file"):
        converter.convert("coco", tmp_path, tmp_path / "out", annotations=tmp_path / "y.json")
