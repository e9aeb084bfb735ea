import numpy as np
import pytest
from PIL import Image

from fcis_tf import visualize
from fcis_tf.labels import Labels
from tests import fixtures


@pytest.fixture
def scene(rng):
    image = rng.integers(0, 256, (500, 600, 3), dtype=np.uint8)
    masks = np.array([fixtures.disc(500, 600, 200, 200, 60), fixtures.disc(500, 600, 210, 400, 50)])
    boxes = np.array([fixtures.tight_box(m) for m in masks])
    return image, boxes, masks.astype(bool)


def test_only_masks_boxes_and_tags_are_painted(scene):
    image, boxes, masks = scene
    found = visualize.draw_instances(image, boxes, masks, ["disc", "disc"], np.array([0.9, 0.8]))
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
    found = visualize.draw_instances(image, boxes, masks, ["a", "b"])
    for i in range(2):
        row = 230
        edge = np.flatnonzero(masks[i][row])[0]
        np.testing.assert_array_equal(found[row, edge], visualize.instance_color(i))


def test_small_images_are_enlarged_by_whole_numbers(rng):
    image = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    found = visualize.draw_instances(image, np.zeros((0, 4)), np.zeros((0, 80, 120), bool), [])
    np.testing.assert_array_equal(found, np.repeat(np.repeat(image, 6, 0), 6, 1))


def test_neighbouring_colours_differ():
    colors = np.array([visualize.instance_color(i) for i in range(20)], int)
    for i in range(20):
        for j in range(i + 1, min(i + 4, 20)):
            assert np.abs(colors[i] - colors[j]).sum() > 100


def test_ground_truth_is_drawn_over_the_image_without_padding(rng):
    means = np.array([1.0, 2.0, 3.0], np.float32)
    pixels = rng.integers(0, 250, (500, 480, 3)).astype(np.float32)
    batch = {
        "image": np.pad(pixels - means, ((0, 20), (0, 30), (0, 0)))[None],
        "image_size": np.array([[500.0, 480.0]]),
        "scale": np.array([1.0]),
        "boxes": np.array([[[100.0, 100, 200, 220], [0, 0, 0, 0]]]),
        "labels": np.array([[2, -1]]),
        "masks": np.full((1, 2, 8, 8), 255, np.uint8),
        "image_id": np.array([b"seven"]),
    }
    (picture,) = visualize.draw_batch(batch, Labels((1, 2), ("a", "b")), means)
    assert picture.shape == (522, 480, 3)  # a title of 22 lines
    np.testing.assert_array_equal(picture[22 + 300 :], pixels[300:].astype(np.uint8))
    inside, original = picture[22 + 150, 150].astype(float), pixels[150, 150]
    expected = 0.6 * original + 0.4 * np.array(visualize.instance_color(0))
    np.testing.assert_allclose(inside, expected, atol=1)


def test_score_map_page_shows_the_framed_cell(rng):
    """A map that is bright in one cell only changes that tile of the mosaic."""
    image = np.full((160, 160, 3), 128, np.uint8)
    maps = np.zeros((20, 20, 3, 3, 2))
    options = {"title": "star, score 0.90"}
    args = (np.array([40.0, 40, 120, 120]), 8, np.zeros((9, 9, 2)))
    dark = visualize.draw_score_maps(image, maps + 1e-3, *args, **options)
    maps[..., 1, 2, 1] = 1.0
    bright = visualize.draw_score_maps(image, maps + 1e-3, *args, **options)
    assert dark.shape == bright.shape and dark.dtype == np.uint8
    changed = (dark != bright).any(-1)
    assert changed.any()


def test_png_is_written_whole(tmp_path, rng):
    picture = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    visualize.save_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
