import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.prediction.views import View, views
from fcis_tf.structures import Heads
from tests import oracle

ALL = views(flip=True, turn=True)
SIZE = np.array([[5.0, 7.0], [4.0, 3.0]], np.float32)


def lay(image, view):
    """By NumPy alone: an unpadded (H, W, ...) array in this view."""
    image = image[::-1] if view.flip_y else image
    image = image[:, ::-1] if view.flip_x else image
    return image.swapaxes(0, 1) if view.transpose else image


def test_the_sets_of_views():
    assert views(flip=False, turn=False) == (View(),)
    assert views(flip=True, turn=False) == (View(), View(flip_x=True))
    assert len(set(ALL)) == 8 and ALL[0] == View() and views(flip=False, turn=True) == ALL


@pytest.mark.parametrize("view", ALL)
def test_padding_stays_where_it_is(rng, view):
    images = np.zeros((2, 6, 8, 3), np.float32)
    for image, (height, width) in zip(images, SIZE.astype(int), strict=True):
        image[:height, :width] = rng.normal(size=(height, width, 3))
    found = view.image(tf.constant(images), tf.constant(SIZE)).numpy()
    sizes = view.size(tf.constant(SIZE)).numpy().astype(int)
    for i, (height, width) in enumerate(SIZE.astype(int)):
        rows, columns = sizes[i]
        expected = lay(images[i, :height, :width], view)
        np.testing.assert_array_equal(found[i, :rows, :columns], expected)
        assert not found[i, rows:].any() and not found[i, :, columns:].any()


@pytest.mark.parametrize("view", ALL)
def test_boxes_go_along_with_the_pixels_they_enclose(rng, view):
    pixels = np.zeros((1, 5, 7, 1), np.float32)
    pixels[0, 1:3, 2:6] = 1
    size = tf.constant(SIZE[:1])
    moved = view.boxes(tf.constant([[[1.0, 2.0, 3.0, 6.0]]]), size)
    rows, columns = np.nonzero(view.image(tf.constant(pixels), size)[0, ..., 0].numpy())
    tight = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    np.testing.assert_array_equal(moved[0, 0], tight)
    boxes = tf.constant(oracle.random_boxes(rng, (2, 9), low=0.0, high=3.0, least=0.5))
    there_and_back = view.boxes_back(view.boxes(boxes, tf.constant(SIZE)), tf.constant(SIZE))
    np.testing.assert_allclose(there_and_back, boxes, atol=1e-6)


@pytest.mark.parametrize("view", ALL)
def test_deltas_and_masks_of_a_view_mean_the_same_in_the_image(rng, view):
    """Decoding in the view and going back equals going back and decoding there."""
    from fcis_tf.geometry import boxes as box_ops

    size = tf.constant([[40.0, 30.0]])
    rois = tf.constant(oracle.random_boxes(rng, (1, 6), low=0.0, high=28.0, least=5.0))
    deltas = tf.constant(rng.normal(scale=0.3, size=(1, 6, 4)), tf.float32)
    masks = rng.normal(size=(1, 6, 4, 4, 2)).astype(np.float32)
    logits = tf.constant(rng.normal(size=(1, 6, 3)), tf.float32)
    seen = np.stack([lay(mask, view) for mask in masks[0]])[None]
    back = view.heads_back(Heads(logits, deltas, tf.constant(seen)))
    np.testing.assert_array_equal(back.mask_logits, masks)
    np.testing.assert_array_equal(back.class_logits, logits)
    in_view = box_ops.decode(deltas, view.boxes(rois, size))
    np.testing.assert_allclose(
        box_ops.decode(back.box_deltas, rois), view.boxes_back(in_view, size), atol=1e-4
    )
