import numpy as np

from fcis_tf.geometry.anchors import cell_anchors, grid_anchors

# Inclusive (x1, y1, x2, y2) of the released lib/rpn/generate_anchor.py, sizes 64, 128, 256, 512.
RELEASED = {
    0.5: [(-38, -16, 53, 31), (-84, -40, 99, 55), (-176, -88, 191, 103), (-360, -184, 375, 199)],
    1.0: [(-24, -24, 39, 39), (-56, -56, 71, 71), (-120, -120, 135, 135), (-248, -248, 263, 263)],
    2.0: [(-14, -36, 29, 51), (-36, -80, 51, 95), (-80, -168, 95, 183), (-168, -344, 183, 359)],
}


def test_cell_anchors_equal_the_released_table():
    table = [box for ratio in (0.5, 1.0, 2.0) for box in RELEASED[ratio]]
    expected = [(y1, x1, y2 + 1, x2 + 1) for x1, y1, x2, y2 in table]
    found = cell_anchors((64, 128, 256, 512), (0.5, 1.0, 2.0), 16)
    np.testing.assert_array_equal(found, expected)


def test_grid_is_row_major_with_the_anchor_fastest():
    cell = cell_anchors((16, 32), (1.0,), 8)
    grid = grid_anchors(cell, 3, 4, 8).numpy().reshape(3, 4, 2, 4)
    for y in range(3):
        for x in range(4):
            np.testing.assert_array_equal(grid[y, x], cell + np.tile([8 * y, 8 * x], 2))


def test_anchors_sit_on_the_middle_of_their_cell():
    anchors = cell_anchors((16, 40), (0.5, 1.0, 2.0), 8)
    np.testing.assert_array_equal((anchors[:, :2] + anchors[:, 2:]) / 2, np.full((6, 2), 4.0))
