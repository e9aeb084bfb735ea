"""The ways to lay an image down, and what is said of one of them carried back to the image."""

from typing import NamedTuple

import tensorflow as tf

from fcis_tf.structures import Heads, Tensor


class View(NamedTuple):
    """An image mirrored along its rows, its columns or both, then perhaps transposed.

    Sizes are (B, 2) float32 heights and widths of the images themselves, without padding.
    """

    flip_y: bool = False
    flip_x: bool = False
    transpose: bool = False

    def image(self, image: Tensor, size: Tensor) -> Tensor:
        """Images (B, H, W, 3) in this view; padding stays at the bottom and at the right."""
        height, width = tf.unstack(tf.cast(size, tf.int32), axis=1)
        if self.flip_y:
            image = tf.reverse_sequence(image, height, seq_axis=1, batch_axis=0)
        if self.flip_x:
            image = tf.reverse_sequence(image, width, seq_axis=2, batch_axis=0)
        return tf.transpose(image, [0, 2, 1, 3]) if self.transpose else image

    def size(self, size: Tensor) -> Tensor:
        """Heights and widths (B, 2) in this view."""
        return size[:, ::-1] if self.transpose else size

    def boxes(self, boxes: Tensor, size: Tensor) -> Tensor:
        """Boxes (B, N, 4) of images of `size` in this view."""
        return self._exchange(self._mirror(boxes, size))

    def boxes_back(self, boxes: Tensor, size: Tensor) -> Tensor:
        """The inverse of `boxes`; `size` is that of the images themselves too."""
        return self._mirror(self._exchange(boxes), size)

    def heads_back(self, heads: Heads) -> Heads:
        """What was read of ROIs in this view, as if of the images themselves."""
        deltas, masks = self._exchange(heads.box_deltas), heads.mask_logits
        if self.transpose:
            masks = tf.transpose(masks, [0, 1, 3, 2, 4])
        axes = [axis for axis, flipped in ((2, self.flip_y), (3, self.flip_x)) if flipped]
        if axes:
            masks = tf.reverse(masks, axes)
        signs = tf.constant([-1.0 if self.flip_y else 1.0, -1.0 if self.flip_x else 1.0, 1.0, 1.0])
        return Heads(heads.class_logits, deltas * signs, masks)

    def _mirror(self, boxes: Tensor, size: Tensor) -> Tensor:
        y0, x0, y1, x1 = tf.unstack(boxes, axis=-1)
        height, width = size[:, :1], size[:, 1:]
        if self.flip_y:
            y0, y1 = height - y1, height - y0
        if self.flip_x:
            x0, x1 = width - x1, width - x0
        return tf.stack([y0, x0, y1, x1], -1)

    def _exchange(self, pairs: Tensor) -> Tensor:
        """(..., 4) as (y, x, y, x) with y and x exchanged."""
        return tf.gather(pairs, [1, 0, 3, 2], axis=-1) if self.transpose else pairs


def views(*, flip: bool, turn: bool) -> tuple[View, ...]:
    """The image itself; with `flip` also its mirror image; with `turn` all eight ways."""
    if turn:
        both = (False, True)
        return tuple(View(y, x, t) for t in both for y in both for x in both)
    return (View(), View(flip_x=True)) if flip else (View(),)
