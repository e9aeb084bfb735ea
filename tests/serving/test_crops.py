import io

import numpy as np
import tensorflow as tf
from PIL import Image

from fcis_tf.geometry.paste import paste_masks
from fcis_tf.serving.export.crops import png_crops, windows

HEIGHT, WIDTH = 60, 90


def test_crops_in_their_windows_are_the_pasted_masks(rng):
    votes = rng.uniform(size=(1, 40, 14, 14)).astype(np.float32)
    corners = rng.uniform(-10, [HEIGHT, WIDTH] * 2, (40, 4))
    boxes = np.stack([np.minimum(corners[:, :2], corners[:, 2:]) for _ in range(1)])[0]
    boxes = np.concatenate([boxes, np.maximum(corners[:, :2], corners[:, 2:])], 1)
    boxes[:3] = np.round(boxes[:3]) + 0.5  # borders on pixel centres
    boxes = boxes[None].astype(np.float32)
    size = tf.constant([[HEIGHT, WIDTH]])
    places = windows(tf.constant(boxes), size)
    valid = np.ones((1, 40), bool)
    valid[0, 7] = False
    files = png_crops(*map(tf.constant, (votes, boxes)), places, tf.constant(valid), 0.5).numpy()
    assert files[0, 7] == b""
    wanted = paste_masks(votes[0], boxes[0], HEIGHT, WIDTH, 0.5)
    assert wanted.any((1, 2)).sum() > 20
    for i in np.flatnonzero(valid[0]):
        canvas = np.zeros((HEIGHT, WIDTH), bool)
        y0, x0, y1, x1 = places[0, i].numpy()
        if files[0, i]:
            canvas[y0:y1, x0:x1] = np.asarray(Image.open(io.BytesIO(files[0, i]))) > 0
        np.testing.assert_array_equal(canvas, wanted[i])
