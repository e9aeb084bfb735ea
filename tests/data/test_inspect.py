import numpy as np

from fcis_tf import drawing
from fcis_tf.data.inspect import draw_batch
from fcis_tf.labels import Labels
from fcis_tf.structures import PIXEL_MEANS


def test_ground_truth_is_drawn_over_the_image_without_padding(rng):
    pixels = rng.integers(0, 250, (500, 480, 3)).astype(np.float32)
    batch = {
        "image": np.pad(pixels - PIXEL_MEANS, ((0, 20), (0, 30), (0, 0)))[None],
        "image_size": np.array([[500.0, 480.0]]),
        "scale": np.array([1.0]),
        "boxes": np.array([[[100.0, 100, 200, 220], [0, 0, 0, 0]]]),
        "labels": np.array([[2, -1]]),
        "masks": np.full((1, 2, 8, 8), 255, np.uint8),
        "image_id": np.array([b"seven"]),
    }
    (picture,) = draw_batch(batch, Labels((1, 2), ("a", "b")))
    assert picture.shape == (522, 480, 3)  # a title of 22 lines
    np.testing.assert_array_equal(picture[22 + 300 :], pixels[300:].astype(np.uint8))
    inside, original = picture[22 + 150, 150].astype(float), pixels[150, 150]
    expected = 0.6 * original + 0.4 * np.array(drawing.instance_color(0))
    np.testing.assert_allclose(inside, expected, atol=1)
