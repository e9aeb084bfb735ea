"""Serialised records to the `example` dictionary of structures.py, in graph mode."""

from collections.abc import Sequence

import tensorflow as tf

from fcis_tf.data.decode import decode_image
from fcis_tf.data.records import BOX_KEYS
from fcis_tf.geometry.masks import resample
from fcis_tf.structures import Tensor


def parse(
    serialized: Tensor, *, category_ids: Sequence[int], mask_size: int | None
) -> dict[str, Tensor]:
    """The `example` dictionary of structures.py from a serialised record, in graph mode.

    Args:
        serialized: () string.
        category_ids: raw ids in the order of the network's classes 1..C.
        mask_size: M, side of the box-frame masks; None keeps masks (G, H0, W0) of the whole image,
            0 or 1.

    Raises:
        tf.errors.InvalidArgumentError: an image that cannot be decoded, instances without masks,
            a mask of another size than its image, or a category id that is not among
            `category_ids`.
    """
    spec = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/source_id": tf.io.FixedLenFeature([], tf.string, ""),
        "image/object/class/label": tf.io.VarLenFeature(tf.int64),
        "image/object/is_crowd": tf.io.VarLenFeature(tf.int64),
        "image/object/mask": tf.io.VarLenFeature(tf.string),
    }
    spec |= {key: tf.io.VarLenFeature(tf.float32) for key in BOX_KEYS}
    raw = tf.io.parse_single_example(serialized, spec)
    values = {
        key: tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value
        for key, value in raw.items()
    }
    image = decode_image(values["image/encoded"])  # (H0, W0, 3) uint8
    # Records hold fractions of height and width; everything from here on is in pixels.
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    boxes = tf.stack([values[key] for key in BOX_KEYS], -1) * tf.concat([size, size], 0)  # (G, 4)
    ids, masks = values["image/object/class/label"], values["image/object/mask"]  # (G,) each
    count = tf.shape(ids)[0]
    # Raw ids have gaps; the network's label is the place of the id among all, from 1.
    same = ids[:, None] == tf.constant(list(category_ids), tf.int64)  # (G, C)
    known = tf.reduce_any(same, -1)
    checks = [
        tf.debugging.assert_equal(
            tf.shape(masks)[0],
            count,
            "records have no image/object/mask; convert them again with masks",
        ),
        tf.debugging.Assert(
            tf.reduce_all(known),
            [
                "a record's category id is not in the labels; set data.labels to the label file "
                "of these records; found ids:",
                tf.boolean_mask(ids, ~known),
            ],
        ),
    ]
    with tf.control_dependencies(checks):
        labels = 1 + tf.argmax(same, -1, output_type=tf.int32)
    # Other converters leave the key out where no instance is a crowd.
    crowd = values["image/object/is_crowd"]
    crowd = tf.cond(tf.size(crowd) > 0, lambda: crowd > 0, lambda: tf.zeros([count], tf.bool))
    return {
        "image": image,
        "boxes": boxes,
        "labels": labels,
        "masks": _whole_masks(masks, tf.shape(image)[:2])
        if mask_size is None
        else _box_frame_masks(masks, boxes, tf.shape(image)[:2], mask_size),
        "crowd": crowd,
        "image_id": values["image/source_id"],
    }


def _box_frame_masks(masks: Tensor, boxes: Tensor, image_size: Tensor, size: int) -> Tensor:
    """Whole-image PNG masks (G,) sampled at the M x M cell centres of their boxes.

    Returns (G, M, M) uint8, coverage 0..255.
    """

    def one(pair: tuple[Tensor, Tensor]) -> Tensor:
        mask = _decode_mask_in_graph(pair[0], image_size)  # (H0, W0)
        limit = tf.cast(image_size, tf.float32)
        low, high = pair[1][:2], pair[1][2:]
        # Only the part under the box, and a pixel around it, is resampled: the rest of a large
        # image costs nothing.
        start = tf.cast(tf.clip_by_value(tf.floor(low) - 1.0, 0.0, limit - 1.0), tf.int32)
        end = tf.cast(tf.clip_by_value(tf.math.ceil(high) + 1.0, 1.0, limit), tf.int32)
        end = tf.maximum(end, start + 1)
        part = mask[start[0] : end[0], start[1] : end[1]]
        # That part is itself a mask in the frame of whole pixels, to be sampled in the box's frame.
        frame = tf.cast(tf.concat([start, end], 0), tf.float32)  # (4,)
        sampled = resample(tf.cast(part > 0, tf.float32)[None], frame[None], pair[1][None], size)[0]
        return tf.cast(tf.round(255.0 * sampled), tf.uint8)

    spec = tf.TensorSpec([size, size], tf.uint8)
    return tf.map_fn(one, (masks, boxes), fn_output_signature=spec)


def _whole_masks(masks: Tensor, image_size: Tensor) -> Tensor:
    """PNG masks (G,) as (G, H0, W0) uint8, 0 or 1."""
    decoded = tf.map_fn(
        lambda mask: tf.cast(_decode_mask_in_graph(mask, image_size) > 0, tf.uint8),
        masks,
        fn_output_signature=tf.TensorSpec([None, None], tf.uint8),
    )
    # Gives the shape also where there is no mask at all.
    return tf.reshape(decoded, tf.concat([tf.shape(masks), image_size], 0))


def _decode_mask_in_graph(encoded: Tensor, image_size: Tensor) -> Tensor:
    """(H0, W0) uint8, 0 outside; some converters write 1, some 255 inside."""
    mask = tf.io.decode_png(encoded, channels=1)
    tf.debugging.assert_equal(
        tf.shape(mask)[:2],
        image_size,
        "an image/object/mask has another size than its image; convert again",
    )
    return mask[..., 0]
