import numpy as np
import pytest
from PIL import Image

from fcis_tf import drawing
from tests import fixtures


@pytest.fixture
def scene(rng):
    image = rng.integers(0, 256, (500, 600, 3), dtype=np.uint8)
    masks = np.array([fixtures.disc(500, 600, 200, 200, 60), fixtures.disc(500, 600, 210, 400, 50)])
    boxes = np.array([fixtures.tight_box(m) for m in masks])
    return image, boxes, masks.astype(bool)


def test_only_masks_boxes_and_tags_are_painted(scene):
    image, boxes, masks = scene
    found = drawing.draw_instances(image, boxes, masks, ["disc", "disc"], np.array([0.9, 0.8]))
    assert found.shape == image.shape and found.dtype == np.uint8
    touched = (found != image).any(-1)
    allowed = masks.any(0)
    for y0, x0, y1, x1 in boxes.astype(int):
        allowed[y0:y1, x0:x1] |= True
        allowed[y0 - 20 : y0, x0 : x0 + 90] = True  # the tag
    assert not (touched & ~allowed).any()
    assert touched[masks.any(0)].mean() > 0.98
    # Inside a box but outside its mask only the frame is painted.
    y0, x0, y1, x1 = boxes[0].astype(int)
    corner = found[y0 + 2 : y0 + 10, x0 + 2 : x0 + 10]
    np.testing.assert_array_equal(corner, image[y0 + 2 : y0 + 10, x0 + 2 : x0 + 10])


def test_outlines_have_the_colour_of_the_instance(scene):
    image, boxes, masks = scene
    found = drawing.draw_instances(image, boxes, masks, ["a", "b"])
    for i in range(2):
        row = 230
        edge = np.flatnonzero(masks[i][row])[0]
        np.testing.assert_array_equal(found[row, edge], drawing.instance_color(i))


def test_small_images_are_enlarged_by_whole_numbers(rng):
    image = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    found = drawing.draw_instances(image, np.zeros((0, 4)), np.zeros((0, 80, 120), bool), [])
    np.testing.assert_array_equal(found, np.repeat(np.repeat(image, 6, 0), 6, 1))


def test_colours_of_twenty_instances_differ_and_of_neighbours_most():
    colors = np.array([drawing.instance_color(i) for i in range(20)], int)
    for i in range(20):
        for j in range(i + 1, 20):
            least = {1: 100, 2: 100, 3: 80}.get(j - i, 45)
            assert np.abs(colors[i] - colors[j]).sum() > least


def tagged(boxes, height=500, width=600):
    """Frames and tags alone, over black: only they have the colours of the instances."""
    image = np.zeros((height, width, 3), np.uint8)
    masks = np.zeros((len(boxes), height, width), bool)
    found = drawing.draw_instances(image, np.array(boxes, float), masks, ["disc"] * len(boxes))
    return found, [(found == drawing.instance_color(i)).all(-1) for i in range(len(boxes))]


@pytest.mark.parametrize("y", [0, 200, 480])
@pytest.mark.parametrize("x", [0, 300, 580])
def test_tags_are_whole_and_hide_no_box_at_the_border(y, x):
    _, (middle,) = tagged([[200, 300, 220, 320]])
    _, (found,) = tagged([[y, x, y + 20, x + 20]])
    assert found.sum() == middle.sum() > 300


def test_no_tag_hides_another_where_there_is_room():
    boxes = [[200, 300, 220, 310], [200, 315, 220, 325], [200, 330, 220, 340]]
    _, together = tagged(boxes)
    for box, found in zip(boxes, together, strict=True):
        _, (alone,) = tagged([box])
        assert found.sum() == alone.sum()


def test_text_stands_out_from_every_tag():
    boxes = [[50 + 100 * (i // 5), 20 + 110 * (i % 5), 75 + 100 * (i // 5), 80] for i in range(21)]
    boxes = [[y0, x0, y1, x0 + 80] for y0, x0, y1, _ in boxes]
    found, _ = tagged(boxes)
    for y0, x0, _, _ in boxes:
        light = found[y0 - 10 : y0 - 3, x0 + 3 : x0 + 25] @ np.array([0.299, 0.587, 0.114])
        assert light.max() - light.min() > 80


def test_png_is_written_whole(tmp_path, rng):
    picture = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    drawing.save_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
