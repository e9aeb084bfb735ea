import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from fcis_tf.data.convert.converter import convert
from fcis_tf.data.records import read_records
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.labelme import read_labelme
from fcis_tf.errors import FcisError
from tests.layouts import labelme_json, labelme_shape, png

HEIGHT, WIDTH = 60, 80
TRIANGLE = [[10, 10], [40, 10], [10, 40]]


def write(folder, shapes, name="a", **more):
    """A picture of noise and its json."""
    folder.mkdir(exist_ok=True, parents=True)
    pixels = np.random.default_rng(len(name)).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.jpg")
    content = labelme_json(shapes, f"{name}.jpg", (HEIGHT, WIDTH)) | more
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def run(folder, out, **options):
    report = convert("labelme", folder, out, **options)
    return report, list(read_records(out))


def masks_of(tmp_path, *shapes):
    report, (record,) = run(write(tmp_path / "in", list(shapes)), tmp_path / "out")
    return report, record.instances


def inside(points):
    """Whether the centre of each pixel is in a polygon, by the number of edges left of it."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    crossings = np.zeros((HEIGHT, WIDTH), int)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        spans = (y0 > ys) != (y1 > ys)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings += spans & (xs > x0 + (ys - y0) * (x1 - x0) / (y1 - y0))
    return crossings % 2


def rim(mask):
    """Pixels that differ from one of their neighbours."""
    padded = np.pad(mask, 1, mode="edge")
    around = [np.roll(padded, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return (np.stack(around) != padded).any(0)[1:-1, 1:-1]


UNEVEN = [[10.2, 10.1], [40.4, 10.3], [10.3, 40.6]]
TILTED = [[20.0, 5.0], [60.0, 20.0], [52.0, 41.0], [12.0, 26.0]]


@pytest.mark.parametrize(
    ("kind", "points", "polygon"),
    [
        ("polygon", UNEVEN, UNEVEN),
        ("polygon", [[5.5, 5.2], [60.1, 8.8], [33.3, 50.9], [30.2, 20.4]], None),
        ("rectangle", [[12, 8], [50, 44]], [[12, 8], [50, 8], [50, 44], [12, 44]]),
        ("rectangle", [[50, 8], [12, 44]], [[12, 8], [50, 8], [50, 44], [12, 44]]),
        ("rectangle", [[12, 8], [50, 8], [50, 44], [12, 44]], None),
        ("oriented_rectangle", TILTED, TILTED),
        (None, UNEVEN, UNEVEN),
    ],
)
def test_shapes_cover_the_pixels_whose_centres_they_hold(tmp_path, kind, points, polygon):
    report, (found,) = masks_of(tmp_path, labelme_shape("a", points, kind))
    wanted = inside(polygon or points)
    assert not report.reasons and wanted.sum() > 100
    assert not ((found.mask != wanted) & ~rim(wanted)).any()
    assert abs(int(found.mask.sum()) - int(wanted.sum())) <= 0.02 * wanted.sum() + 2


@pytest.mark.parametrize("radius", [2.0, 9.5, 25.0])
def test_a_circle_is_a_center_and_a_point_on_its_rim(tmp_path, radius):
    x, y, angle = 40.3, 30.6, 0.7
    points = [[x, y], [x + radius * np.cos(angle), y + radius * np.sin(angle)]]
    _, (found,) = masks_of(tmp_path, labelme_shape("a", points, "circle"))
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    distance = np.hypot(xs - x, ys - y)
    assert found.mask[distance < radius - 0.75].all()
    assert not found.mask[distance > radius + 0.75].any()


@pytest.mark.parametrize(
    ("kind", "points", "near"),
    [
        ("line", [[20, 30], [60, 30]], 5),
        ("linestrip", [[20, 10], [60, 10], [60, 50]], 5),
        ("point", [[40, 30]], 5),
    ],
)
def test_lines_and_points_are_drawn_as_wide_as_labelme_draws_them(tmp_path, kind, points, near):
    report, (found,) = masks_of(tmp_path, labelme_shape("a", points, kind))
    assert report.reasons == {faults.DRAWN: 1}
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    distances = []
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        length = max(np.hypot(x1 - x0, y1 - y0), 1e-9)
        along = np.clip(((xs - x0) * (x1 - x0) + (ys - y0) * (y1 - y0)) / length**2, 0, 1)
        distances.append(np.hypot(xs - x0 - along * (x1 - x0), ys - y0 - along * (y1 - y0)))
    distance = np.min(distances, 0)
    middle = (xs > 21) & (xs < 59) & (ys < 49) | (kind == "point")  # LabelMe's lines end square
    assert found.mask[(distance < near - 1) & middle].all()
    assert not found.mask[distance > near + 1.5].any()


@pytest.mark.parametrize("corner", [(5.0, 7.0), (5.4, 6.6), (-3.0, -2.0), (70.0, 55.0)])
def test_a_bitmap_lies_at_its_corner_and_is_cut_at_the_edge(tmp_path, rng, corner):
    part = (rng.random((12, 17)) < 0.5).astype(np.uint8)
    text = base64.b64encode(png(part * 255)).decode()
    x, y = corner
    shape = labelme_shape("a", [[x, y], [x + 16, y + 11]], "mask", mask=text)
    report, (found,) = masks_of(tmp_path, shape)
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    for j in range(12):
        for i in range(17):
            row, column = round(y) + j, round(x) + i
            if 0 <= row < HEIGHT and 0 <= column < WIDTH:
                wanted[row, column] = part[j, i]
    np.testing.assert_array_equal(found.mask, wanted)


def test_a_group_of_one_label_is_one_instance(tmp_path):
    square = [[50, 20], [70, 20], [70, 40], [50, 40]]
    report, found = masks_of(
        tmp_path,
        labelme_shape("a", TRIANGLE, group_id=0),
        labelme_shape("b", square, group_id=0),
        labelme_shape("a", square, group_id=0),
        labelme_shape("a", square, group_id=3),
        labelme_shape("a", square),
        labelme_shape("a", TRIANGLE),
    )
    assert not report.reasons
    assert [i.name for i in found] == ["a", "b", "a", "a", "a"]
    masks = [i.mask for i in found]
    one, other = masks[4], masks[1]
    for mask, wanted in zip(masks, [one | other, other, other, other, one], strict=True):
        np.testing.assert_array_equal(mask, wanted)
    np.testing.assert_allclose(found[0].box, (10, 10, 40, 70), atol=1e-4)
    assert found[0].area == masks[0].sum()


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (labelme_shape("a", [[1, 1], [5, 5]]), faults.BAD_MASK),
        (labelme_shape("a", []), faults.BAD_MASK),
        (labelme_shape("a", [[1, 1], [5, 5], [float("nan"), 2]]), faults.BAD_MASK),
        (labelme_shape("a", [[1, 1], [5, 5], [1e7, 2]]), faults.BAD_MASK),
        (labelme_shape("a", [[1, 1], [5, "x"], [1, 2]]), faults.BAD_MASK),
        (labelme_shape("a", [[1, 1, 1]] * 3), faults.BAD_MASK),
        (labelme_shape("a", None), faults.BAD_MASK),
        (labelme_shape("a", TRIANGLE, "circle"), faults.BAD_MASK),
        (labelme_shape("a", TRIANGLE, "point"), faults.BAD_MASK),
        (labelme_shape("a", TRIANGLE[:1], "line"), faults.BAD_MASK),
        (labelme_shape("a", TRIANGLE, "points"), faults.BAD_MASK),
        (labelme_shape("a", TRIANGLE, "mask"), faults.BAD_MASK),
        (labelme_shape("a", TRIANGLE, "mask", mask="no base64"), faults.BAD_MASK),
        (labelme_shape("a", TRIANGLE, "mask", mask="AAAA"), faults.BAD_MASK),
        (labelme_shape("a", [[100, 1], [120, 5], [100, 9]]), faults.EMPTY_MASK),
        (labelme_shape("a", [[10, 10], [10, 10]], "rectangle"), faults.EMPTY_MASK),
        (labelme_shape("c", TRIANGLE), faults.UNKNOWN_CATEGORY),
        (labelme_shape(3, TRIANGLE), faults.UNKNOWN_CATEGORY),
        ("shape", faults.UNKNOWN_CATEGORY),
    ],
)
def test_a_faulty_shape_is_dropped_counted_and_strict_stops(tmp_path, shape, reason):
    folder = write(tmp_path / "in", [labelme_shape("a", TRIANGLE), shape])
    (tmp_path / "labels.txt").write_text("a\nb\n")
    report, (record,) = run(folder, tmp_path / "out", labels=tmp_path / "labels.txt")
    assert len(record.instances) == 1 and report.instances == 1
    assert {r: c for r, c in report.reasons.items() if r != faults.CLIPPED} == {reason: 1}
    assert report.examples[reason][0].startswith("shape 2 (")
    assert "of a.json" in report.examples[reason][0]
    with pytest.raises(FcisError, match=f"a.json.*: {reason}"):
        run(folder, tmp_path / "strict", strict=True, labels=tmp_path / "labels.txt")


def test_shapes_beyond_the_edge_and_to_be_ignored_are_notes(tmp_path):
    shapes = [
        labelme_shape("a", [[-9, 10], [40, 10], [-9, 40]]),
        labelme_shape("a", [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT]]),
        labelme_shape("__ignore__", TRIANGLE),
    ]
    report, (record,) = run(write(tmp_path / "in", shapes), tmp_path / "out", strict=True)
    assert report.reasons == {faults.CLIPPED: 1, faults.IGNORED: 1}
    assert report.examples[faults.CLIPPED] == ["shape 1 (a) of a.json"]
    assert record.instances[0].box[1] == 0 and len(record.instances) == 2


def test_faults_of_files_are_counted_by_reason(tmp_path):
    """One of each; the counts are those of the defects put in."""
    folder = tmp_path / "in"
    good = [labelme_shape("a", TRIANGLE)]
    write(folder, good)
    write(folder / "sub", good, "b")
    write(folder, good, "absent")
    (folder / "absent.jpg").unlink()
    write(folder, good, "other", imageWidth=WIDTH + 1)
    write(folder, good, "text")
    (folder / "text.jpg").write_text("no image")
    write(folder, good, "png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "png.jpg", "PNG")
    write(folder, [], "empty")
    write(folder, good, "twice", imagePath="a.jpg")
    (folder / "twice.jpg").unlink()
    write(folder, good, "broken", imageData="%%%")
    (folder / "coco.json").write_text('{"images": [], "annotations": []}')
    (folder / "cut.json").write_text('{"shapes": [')
    Image.new("RGB", (5, 5)).save(folder / "unlabelled.png")
    (folder / "._a.jpg").write_bytes(b"hidden")
    report, records = run(folder, tmp_path / "out")
    assert report.reasons == {
        faults.MISSING: 1, faults.OTHER_SIZE: 1, faults.UNREADABLE: 2, faults.MISNAMED: 1,
        faults.NO_INSTANCES: 1, faults.DUPLICATE_IMAGE: 1, faults.BAD_LABELS: 2,
        faults.UNLABELLED: 1,
    }  # fmt: skip
    assert report.examples[faults.UNLABELLED] == ["unlabelled.png"]
    assert [r.image_id for r in records] == ["a", "empty", "png", "sub/b"]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    counts = {k: v["count"] for kind in ("faults", "notes") for k, v in written[kind].items()}
    assert counts == report.reasons
    with pytest.raises(FcisError, match="--strict stops here"):
        run(folder, tmp_path / "strict", strict=True)


def test_labels_of_a_turned_photograph_are_of_what_labelme_shows(tmp_path):
    """A landscape photograph of a telephone held upside down, and one held upright."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[10:20, 5:35] = 255  # the object, in the pixels as stored
    for orientation, points, size in (
        (3, [[45, 40], [75, 50]], (HEIGHT, WIDTH)),
        (6, [[40, 5], [50, 35]], (WIDTH, HEIGHT)),
    ):
        folder = tmp_path / str(orientation)
        height, width = size
        shapes = [labelme_shape("a", points, "rectangle")]
        write(folder, shapes, imageHeight=height, imageWidth=width)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(folder / "a.jpg", quality=95, exif=exif)
        report, (record,) = run(folder, tmp_path / f"out{orientation}")
        assert report.reasons == {faults.TURNED: 1} and (record.height, record.width) == size
        shown = np.asarray(Image.open(io.BytesIO(record.encoded)).convert("L"))
        mask = record.instances[0].mask
        assert shown[mask > 0].min() > 200 and shown[mask == 0].max() < 55


def test_images_are_found_where_the_json_places_them_and_beside_it(tmp_path):
    shapes = [labelme_shape("a", TRIANGLE)]
    write(tmp_path / "in" / "labels", shapes, "a", imagePath="..\\images\\a.jpg")
    (tmp_path / "in" / "images").mkdir()
    shutil.move(tmp_path / "in" / "labels" / "a.jpg", tmp_path / "in" / "images" / "a.jpg")
    write(tmp_path / "in" / "labels", shapes, "b", imagePath="C:\\Users\\me\\photos\\b.jpg")
    report, records = run(tmp_path / "in", tmp_path / "out")
    assert not report.reasons
    assert [(r.image_id, r.filename) for r in records] == [
        ("labels/a", "a.jpg"), ("labels/b", "b.jpg")
    ]  # fmt: skip


def test_a_folder_without_labelme_files_is_refused(tmp_path):
    with pytest.raises(FcisError, match="absent: no such folder"):
        read_labelme(tmp_path / "absent", print)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(FcisError, match="no json file of LabelMe"):
        read_labelme(tmp_path, print)


def test_polygons_are_drawn_as_coco_draws_them(tmp_path):
    points = [[5.5, 5.2], [60.1, 8.8], [33.3, 50.9]]
    _, (found,) = masks_of(tmp_path, labelme_shape("a", points))
    flat = [v for point in points for v in point]
    wanted = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([flat], HEIGHT, WIDTH)))
    np.testing.assert_array_equal(found.mask, wanted)
