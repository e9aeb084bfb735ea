"""Transforms of one example, dict -> dict; keys and shapes are listed in structures.py.

All randomness is stateless: it depends on the seed pair of a draw and on nothing else. Masks are
grids in the frame of their box, so that most transforms move boxes and leave masks as they are.
"""

from collections.abc import Sequence

import tensorflow as tf

from fcis_tf.geometry import boxes as box_ops
from fcis_tf.geometry.masks import resample
from fcis_tf.structures import PIXEL_MEANS, Tensor

Example = dict[str, Tensor]

# An instance cut by a crop stays if this part of its mask is still in the window.
LEAST_VISIBLE = 0.1


def resize_factor(size: Tensor, short_side: Tensor, long_side: Tensor) -> Tensor:
    """Network pixels per original pixel, () float64.

    The shorter side becomes `short_side` unless that makes the longer one longer than `long_side`
    (released code: ``lib/utils/image.py: resize``).

    Args:
        size: (2,) height and width of the image.
        short_side: wanted length of the shorter side.
        long_side: largest length of the longer side.
    """
    size = tf.cast(size, tf.float64)
    shorter, longer = tf.reduce_min(size), tf.reduce_max(size)
    short_side, long_side = tf.cast(short_side, tf.float64), tf.cast(long_side, tf.float64)
    factor = short_side / shorter
    # The cap applies to the rounded size, as in the released code.
    return tf.where(tf.round(factor * longer) > long_side, long_side / longer, factor)


def resized_size(size: Tensor, factor: Tensor) -> Tensor:
    """Height and width (2,) int32 of a resized image, at least one pixel."""
    return tf.maximum(tf.cast(tf.round(factor * tf.cast(size, factor.dtype)), tf.int32), 1)


def resize_image(image: Tensor, factor: Tensor, corner: Tensor, size: Tensor) -> Tensor:
    """Cut a window out of the image resized by exactly `factor` (bilinear, not antialiased).

    Output pixel x is the source at (x + corner + 0.5) / factor - 0.5, so that boxes scale by the
    same number whatever the rounding of the size. Nothing outside the window is computed.

    Args:
        image: (H0, W0, 3).
        factor: () float32.
        corner: (2,) int32, first row and column of the window in the resized image.
        size: (2,) int32, height and width of the window.

    Returns:
        (H, W, 3) float32.
    """
    resized = tf.raw_ops.ScaleAndTranslate(
        images=tf.cast(image, tf.float32)[None],  # (1, H0, W0, 3)
        size=size,
        scale=tf.stack([factor, factor]),
        translation=-tf.cast(corner, tf.float32),
        kernel_type="triangle",
        antialias=False,
    )
    return resized[0]  # (H, W, 3)


def resize_whole(image: Tensor, factor: Tensor, size: Tensor) -> Tensor:
    """As `resize_image`, of the whole image, and three times as fast where the factor allows.

    ResizeBilinear scales by the ratio of whole sizes. So the image is padded, at its lower and
    right edge, to sizes that the factor makes whole, and the padding is cut off afterwards. It
    repeats the last row and column, which is what bilinear interpolation takes beyond them.

    Args:
        image: (H0, W0, 3).
        factor: () float64.
        size: (2,) int32, height and width of the result.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    rows, made_rows, rows_found = _whole_length(height, factor)
    columns, made_columns, columns_found = _whole_length(width, factor)

    def padded() -> Tensor:
        longer = tf.concat([image, tf.repeat(image[-1:], rows - height, axis=0)], 0)
        longer = tf.concat([longer, tf.repeat(longer[:, -1:], columns - width, axis=1)], 1)
        # (rows, columns, 3) -> (1, made_rows, made_columns, 3)
        resized = tf.raw_ops.ResizeBilinear(
            images=tf.cast(longer, tf.float32)[None],
            size=[made_rows, made_columns],
            half_pixel_centers=True,
        )
        return resized[0, : size[0], : size[1]]

    def any_factor() -> Tensor:
        return resize_image(image, tf.cast(factor, tf.float32), tf.zeros([2], tf.int32), size)

    return tf.cond(rows_found & columns_found, padded, any_factor)


def _whole_length(length: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least length, from this one to its double, that the factor resizes to a whole number.

    Returns:
        That length and its resized length, both () int32, and whether there is one, () bool.
    """
    lengths = tf.range(length, 2 * length + 1)  # (length + 1,) candidates
    made = tf.cast(lengths, tf.float64) * factor
    whole = (tf.abs(made - tf.round(made)) < 1e-6) & (tf.round(made) >= 1.0)
    first = tf.argmax(whole)  # the first True, or 0
    return lengths[first], tf.cast(tf.round(made[first]), tf.int32), tf.reduce_any(whole)


def resize(example: Example, factor: Tensor) -> Example:
    """Resize the image and scale its boxes; adds `scale`. Box-frame masks do not change."""
    size = resized_size(tf.shape(example["image"])[:2], factor)
    exact, factor = tf.cast(factor, tf.float64), tf.cast(factor, tf.float32)
    # Size and sampling need the exact factor; boxes and `scale` are float32 as all that follows.
    image = tf.cond(
        factor == 1.0,
        lambda: tf.cast(example["image"], tf.float32),
        lambda: resize_whole(example["image"], exact, size),
    )
    return example | {
        "image": image,
        "boxes": box_ops.clip(example["boxes"] * factor, tf.cast(size, tf.float32)),
        "scale": factor,
    }


def resize_and_crop(example: Example, factor: Tensor, corner: Tensor, size: Tensor) -> Example:
    """`resize`, then keep a window; instances are cut to it and dropped if little is left.

    Args:
        example: an example.
        factor: see `resize`.
        corner: (2,) int32, first row and column of the window in the resized image.
        size: (2,) int32, its height and width.
    """
    factor, offset = tf.cast(factor, tf.float32), tf.cast(corner, tf.float32)
    # In pixels of the window, where `boxes` may reach beyond it and `inside` may be empty.
    boxes = example["boxes"] * factor - tf.concat([offset, offset], 0)  # (G, 4)
    inside = box_ops.clip(boxes, tf.cast(size, tf.float32))
    # A cut box is a new frame, so its mask is sampled anew from that of the whole box.
    coverage = tf.cast(example["masks"], tf.float32) / 255.0  # (G, M, M) in 0..1
    cut = resample(coverage, boxes, inside, example["masks"].shape[-1])
    # Pixels of each instance: mean coverage times area of the frame.
    visible = tf.reduce_mean(cut, [1, 2]) * box_ops.area(inside)  # (G,)
    whole = tf.reduce_mean(coverage, [1, 2]) * box_ops.area(boxes)
    masks = tf.cast(tf.round(255.0 * cut), tf.uint8)
    keep = (visible >= LEAST_VISIBLE * whole) & tf.reduce_any(masks >= 128, [1, 2])
    example = example | {
        "image": resize_image(example["image"], factor, corner, size),
        "boxes": inside,
        "masks": masks,
        "scale": factor,
    }
    return select(example, tf.where(keep)[:, 0])


def flip(example: Example) -> Example:
    """Mirror the image, its boxes and their box-frame masks left to right."""
    width = tf.cast(tf.shape(example["image"])[1], tf.float32)
    y0, x0, y1, x1 = tf.unstack(example["boxes"], axis=-1)  # (G,) each
    # Half-open edges map by x -> width - x, and the left edge comes from the right one.
    return example | {
        "image": tf.reverse(example["image"], [1]),
        "boxes": tf.stack([y0, width - x1, y1, width - x0], -1),
        "masks": tf.reverse(example["masks"], [2]),
    }


def transpose(example: Example) -> Example:
    """Exchange rows and columns of the image, its boxes and their box-frame masks.

    With `flip` it generates the eight rotations and reflections, for images without an upright
    position, as in microscopy.
    """
    y0, x0, y1, x1 = tf.unstack(example["boxes"], axis=-1)
    return example | {
        "image": tf.transpose(example["image"], [1, 0, 2]),
        "boxes": tf.stack([x0, y0, x1, y1], -1),
        "masks": tf.transpose(example["masks"], [0, 2, 1]),
    }


def color_jitter(example: Example, strength: float, seed: Tensor) -> Example:
    """Scale and shift all grey levels by random amounts of up to `strength` (of 255)."""
    image = tf.cast(example["image"], tf.float32)
    scale, shift = tf.unstack(tf.random.stateless_uniform([2], seed, -strength, strength))
    return example | {"image": tf.clip_by_value(image * (1.0 + scale) + 255.0 * shift, 0.0, 255.0)}


def select(example: Example, index: Tensor) -> Example:
    """Keep the instances with these numbers."""
    names = [name for name in ("boxes", "labels", "masks", "crowd") if name in example]
    return example | {name: tf.gather(example[name], index) for name in names}


def drop_crowds(example: Example) -> Example:
    """Keep what is not a crowd region; training leaves them out, as ``lib/dataset/coco.py``."""
    return select(example, tf.where(~example["crowd"])[:, 0])


def limit_instances(example: Example, most: int, seed: Tensor) -> Example:
    """Keep a random `most` of the instances, in their order, where there are more."""
    # The instances with the largest of G random keys are a uniform sample.
    keys = tf.random.stateless_uniform(tf.shape(example["labels"]), seed)  # (G,)
    chosen = tf.math.top_k(keys, tf.minimum(most, tf.shape(keys)[0])).indices
    return select(example, tf.sort(chosen))


def subtract_means(example: Example) -> Example:
    """The image as the network takes it: float32 RGB less the channel means."""
    image = tf.cast(example["image"], tf.float32)
    # Rows at a time: subtracting three numbers from the last axis takes twice as long.
    size = tf.shape(image)
    rows = tf.reshape(image, [size[0], -1]) - tf.tile(PIXEL_MEANS, size[1:2])  # (H, W * 3)
    return example | {"image": tf.reshape(rows, size)}


def draw_one(values: Sequence[float], seed: Tensor) -> Tensor:
    """One of the values, all equally likely."""
    index = tf.random.stateless_uniform([], seed, maxval=len(values), dtype=tf.int32)
    return tf.gather(tf.constant(values, tf.float32), index)
