"""Reading of image files, masks, lists and classes, which all sources share."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fcis_tf.data.convert.report import LISTED_FAULTS, LISTED_NOTES, Report
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.base import choose, read_labels, read_mask, read_picture
from fcis_tf.errors import FcisError


def picture(rng, height=6, width=10):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def read(path, report=None, **options):
    report = report or Report()
    return read_picture(path, path.name, report.add_fault, **options), dict(report.reasons)


def turned(pixels, orientation):
    """What EXIF makes a viewer show, one pixel at a time: where row 0 and column 0 are shown."""
    height, width, _ = pixels.shape
    swap = orientation >= 5
    out = np.zeros((width, height, 3) if swap else (height, width, 3), np.uint8)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            a, b = (x, y) if swap else (y, x)  # row and column in the file, before mirroring
            if orientation in (3, 4, 7, 8) if not swap else orientation in (6, 7):
                a = height - 1 - a
            if orientation in (2, 3) if not swap else orientation in (7, 8):
                b = width - 1 - b
            out[y, x] = pixels[a, b]
    return out


def save_turned(path, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shown", [False, True])
def test_exif_rotation_follows_the_size_in_the_labels_and_else_the_kind_of_labels(
    rng, tmp_path, orientation, shown
):
    pixels = picture(rng)
    path = tmp_path / "a.png"
    save_turned(path, pixels, orientation)
    swaps = orientation >= 5
    sizes = {"none": (None, None), "stored": (6, 10), "turned": (10, 6)}
    for stated, (height, width) in sizes.items():
        found, reasons = read(path, height=height, width=width, shown=shown)
        if stated == "turned" and not swaps:
            assert found is None and faults.OTHER_SIZE in reasons
            continue
        turns = orientation > 1 and (
            stated == "turned" or (shown and not (swaps and stated == "stored"))
        )
        expected = turned(pixels, orientation) if turns else pixels
        np.testing.assert_array_equal(tf.io.decode_png(found.encoded), expected)
        assert (found.height, found.width) == expected.shape[:2]
        assert (found.encoded == path.read_bytes()) == (not turns)
        reason = {faults.TURNED: 1} if turns else {faults.STORED: 1} if orientation > 1 else {}
        assert reasons == reason


@pytest.mark.parametrize(
    ("name", "kind", "reasons"),
    [
        ("a.jpg", "JPEG", {}),
        ("a.jpeg", "JPEG", {}),
        ("a.JPG", "JPEG", {}),
        ("a.png", "PNG", {}),
        ("a.jpg", "PNG", {faults.MISNAMED: 1}),
        ("a.png", "JPEG", {faults.MISNAMED: 1}),
        ("a.dat", "JPEG", {}),
        ("a", "PNG", {}),
        ("a.jpg", "WEBP", {faults.MISNAMED: 1, faults.REENCODED: 1}),
        ("a.webp", "WEBP", {faults.REENCODED: 1}),
        ("a.jpg", "MPO", {}),
        ("a.mpo", "MPO", {}),
    ],
)
def test_bytes_decide_what_a_file_is_and_another_name_is_noted(rng, tmp_path, name, kind, reasons):
    pixels = picture(rng, 16, 24)
    options = {"save_all": True, "append_images": [Image.new("RGB", (24, 16))]}
    Image.fromarray(pixels).save(tmp_path / name, kind, **(options if kind == "MPO" else {}))
    found, noted = read(tmp_path / name)
    assert noted == reasons
    assert found.format == ("jpeg" if kind in ("JPEG", "MPO") else "png")
    kept = found.encoded == (tmp_path / name).read_bytes()
    assert kept == (kind != "WEBP")
    decoded = tf.io.decode_image(found.encoded).numpy()
    np.testing.assert_array_equal(decoded.shape, pixels.shape)
    if kind == "PNG":
        np.testing.assert_array_equal(decoded, pixels)
    else:  # the first picture, not the black one after it
        assert abs(decoded.mean() - pixels.mean()) < 12


@pytest.mark.parametrize(
    ("mode", "high"),
    [
        ("1", 1),
        ("L", 1),
        ("L", 255),
        ("L", 7),
        ("P", 1),
        ("I;16", 65535),
        ("RGB", 255),
        ("RGBA", 1),
    ],
)
def test_a_mask_is_the_upper_half_of_its_values_in_every_mode(rng, tmp_path, mode, high):
    wanted = rng.random((9, 13)) < 0.4
    values = np.where(wanted, high, 0)
    if mode == "1":
        image = Image.fromarray(wanted)
    elif mode in ("RGB", "RGBA"):
        opaque = np.full_like(values, 255)
        channels = [values] * 3 + [opaque] * (mode == "RGBA")
        image = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    elif mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    else:
        image = Image.fromarray(values.astype(np.uint8))
        if mode == "P":
            image = Image.fromarray(values.astype(np.uint8), "P")
            image.putpalette([0, 0, 0, 0, 0, 0])  # both numbers black
    assert image.mode == mode
    image.save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("high", [255, 200])
def test_of_a_smooth_rim_the_upper_half_is_inside(tmp_path, high):
    row = np.linspace(0, high, 101).round().astype(np.uint8)
    Image.fromarray(np.stack([row, row])).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png")[0], row > high / 2)


def test_a_mask_of_zeros_is_empty(tmp_path):
    Image.new("L", (4, 3)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").sum() == 0


def test_names_of_a_list_may_have_a_suffix_but_dots_in_ids_count():
    report = Report()
    ids = ["a.b", "a", "sub/c"]
    wanted = ["a.b", "a.jpg", "sub/c.png", "a.b.jpg", "c"]
    assert choose(ids, wanted, report.add_fault) == ["a.b", "a", "sub/c"]
    assert report.examples == {faults.DUPLICATE_IMAGE: ["a.b.jpg"], faults.NOT_THERE: ["c"]}
    assert choose(ids, None, report.add_fault) == ids


def test_classes_come_from_a_file_in_its_order_or_from_the_names_found(tmp_path):
    assert read_labels(None, ["b", "a", "b", "_background_"]).names == ("a", "b")
    text, rows = tmp_path / "labels.txt", tmp_path / "labels.json"
    text.write_text("__ignore__\n_background_\nzebra\nant \n")
    found = read_labels(text, ["x"])
    assert (found.ids, found.names) == ((1, 2), ("zebra", "ant"))
    rows.write_text('[{"id": 7, "name": "ant"}, {"id": 3, "name": "bee"}]')
    found = read_labels(rows, ["x"])
    assert (found.ids, found.names) == ((3, 7), ("bee", "ant"))
    text.write_text("a\nb\na\n")
    with pytest.raises(FcisError, match=r"labels.txt: classes are named twice: \['a'\]"):
        read_labels(text, [])
    with pytest.raises(FcisError, match="no class is named"):
        read_labels(None, ["_background_"])


def test_all_that_was_lost_is_listed_and_of_notes_the_first():
    report, part = Report(), Report()
    for n in range(LISTED_FAULTS + 5):
        report.add_fault(faults.EMPTY_MASK, f"annotation {n}")
        report.add_fault(faults.CLIPPED, f"annotation {n}")
    part.add_fault(faults.EMPTY_MASK, "one more")
    part.add_fault(faults.BAD_BOX, "annotation 7 of image 3")
    report.merge(part)
    written = report.to_dict()
    lost, noted = written["faults"][faults.EMPTY_MASK], written["notes"][faults.CLIPPED]
    assert lost["count"] == LISTED_FAULTS + 6 and noted["count"] == LISTED_FAULTS + 5
    assert lost["examples"] == [f"annotation {n}" for n in range(LISTED_FAULTS)]
    assert noted["examples"] == [f"annotation {n}" for n in range(LISTED_NOTES)]
    assert written["faults"][faults.BAD_BOX]["examples"] == ["annotation 7 of image 3"]
    assert "fault       1  box is not four finite numbers; first: annotation 7 of image 3" in str(
        report
    )
