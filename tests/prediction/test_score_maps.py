import numpy as np
import pytest

from fcis_tf.prediction.score_maps import draw_maps
from tests import fixtures


def change(page, other):
    """The (y0, x0, y1, x1) in which two pages of one size differ."""
    assert page.shape == other.shape
    return np.array(fixtures.tight_box((page != other).any(-1)))


def score_map_page(changed=None, logit=0.0):
    """A page of flat maps (20, 30, 3, 3, 2); one map may be changed, or one mask logit."""
    image = np.full((160, 240, 3), 128, np.uint8)
    maps = np.zeros((20, 30, 3, 3, 2))
    if changed:
        maps[(slice(None), slice(None), *changed)] = 1.0
    assembled = np.zeros((9, 9, 2))
    assembled[0, 0] = 2.0  # the largest score, so that all pages have one scale
    assembled[4, 4, 1] += logit
    roi = np.array([40.0, 40, 120, 120])
    return draw_maps(image, maps, roi, 8, assembled, title="star, score 0.90")


def test_each_map_has_its_own_tile_in_the_mosaic_of_its_side():
    flat = score_map_page()
    first = change(flat, score_map_page((0, 0, 1)))
    height, width = first[2:] - first[:2]
    assert width == pytest.approx(1.5 * height, abs=2)  # the whole map, 20 x 30 cells
    down, right = first[2] - first[0] + 3, first[3] - first[1] + 3
    for gy in range(3):
        for gx in range(3):
            inside = change(flat, score_map_page((gy, gx, 1)))
            np.testing.assert_allclose(inside, first + [gy * down, gx * right] * 2, atol=1)
            outside = change(flat, score_map_page((gy, gx, 0)))
            assert outside[1] - inside[1] == 3 * right - 3 + 8


def test_own_cells_of_the_maps_tile_the_roi():
    """The white frames of the mosaic, taken together, are the ROI cut into cells."""
    bright, flat = score_map_page((0, 0, 1)), score_map_page()
    top, left, bottom, right = change(flat, bright).astype(int)
    pixels_per_cell = (bottom - top) / 20
    for gy in range(3):
        for gx in range(3):
            y, x = top + gy * (bottom - top + 3), left + gx * (right - left + 3)
            tile = flat[y : y + bottom - top, x : x + right - left]
            cell = fixtures.tight_box((tile == 255).all(-1))
            low = np.array([5 + gy * 10 / 3, 5 + gx * 10 / 3])
            expected = np.concatenate([low, low + 10 / 3])
            np.testing.assert_allclose(cell, expected * pixels_per_cell, atol=1.5)


def test_an_assembled_bin_shows_in_its_tile_and_in_the_probability():
    flat, found = score_map_page(), score_map_page(logit=1.0)
    y0, x0, y1, x1 = change(flat, found)
    tile = (480 - 2 * 8) // 3  # the bin is in the first and, two tiles to the right, in the third
    assert y1 - y0 == pytest.approx(tile / 9, abs=1.5)
    assert x1 - x0 == pytest.approx(2 * (tile + 8) + tile / 9, abs=1.5)
