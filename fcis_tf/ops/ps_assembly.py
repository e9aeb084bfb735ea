"""What a ROI reads from position-sensitive maps: the public functions over two implementations.

The stock operations of TensorFlow define the semantics, run everywhere and are what an exported
model contains; the custom operations (``custom_ops/``) compute the same several times faster.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from fcis_tf.ops import library, stock
from fcis_tf.structures import Tensor

MOST_BINS, MOST_STRIDE = 128, 4096  # as in custom_ops/geometry.h


def ps_assemble(
    maps: Tensor,
    rois: Tensor,
    labels: Tensor | None = None,
    *,
    group_size: int,
    pooled_size: int,
    stride: int,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Class and mask logits of every ROI from one shared set of maps.

    "Joint Mask Prediction and Classification" of the paper (section 2.2).

    In each bin the larger of a class's outside and inside scores is evidence for the class; a
    softmax over the two gives the probability that the bin is inside the instance.

    Args:
        maps: (B, Hf, Wf, k * k * 2 * K) float32 or bfloat16, channels (gy, gx, side, class).
        rois: (B, N, 4) float32 (y0, x0, y1, x1) in network pixels.
        labels: (B, N) int32, the class whose mask logits are returned; values below 0 read class 0.
            By default each ROI's best foreground class.
        group_size: k.
        pooled_size: p, from k to 128.
        stride: network pixels per feature cell, even.
        impl: "stock", "custom" or "auto", as `library.use_custom`.

    Returns:
        class_logits (B, N, K) and mask_logits (B, N, p, p, 2), both float32; differentiable in
        `maps` only.

    Raises:
        tf.errors.InvalidArgumentError: an argument has a wrong shape, dtype or value.
        FcisError: "custom" is requested but not available.
    """
    geometry: dict[str, Any] = {
        "group_size": group_size,
        "pooled_size": pooled_size,
        "stride": stride,
    }
    maps, rois = checked(maps, rois, sides=2, **geometry)
    classes = maps.shape[-1] // (2 * group_size**2)
    shape = tf.shape(rois)
    if labels is None:
        flat_labels = tf.fill([shape[0] * shape[1]], -1)
    else:
        labels = tf.convert_to_tensor(labels)
        require(labels.dtype == tf.int32, f"labels: expected int32, found {labels.dtype.name}")
        require(
            _rank_is(labels, 2) and tf.reduce_all(tf.shape(labels) == shape[:2]),
            f"labels: expected the shape (B, N) of rois, found {labels.shape}",
        )
        below = tf.reduce_all(labels < classes)
        with require(below, f"labels: expected values below {classes}"):
            flat_labels = tf.maximum(tf.reshape(labels, [-1]), 0)
    custom = library.use_custom(impl)
    assemble = library.ps_assemble if custom else stock.ps_assemble
    class_logits, mask_logits = assemble(maps, *flatten(rois), flat_labels, **geometry)
    p = pooled_size
    return (
        tf.reshape(class_logits, [shape[0], shape[1], classes]),
        tf.reshape(mask_logits, [shape[0], shape[1], p, p, 2]),
    )


def ps_average(
    maps: Tensor,
    rois: Tensor,
    *,
    group_size: int,
    pooled_size: int,
    stride: int,
    impl: str = "auto",
) -> Tensor:
    """Mean (B, N, D) over all bins of maps (B, Hf, Wf, k * k * D) for rois (B, N, 4).

    Arguments, types and errors as in `ps_assemble`.
    """
    geometry: dict[str, Any] = {
        "group_size": group_size,
        "pooled_size": pooled_size,
        "stride": stride,
    }
    maps, rois = checked(maps, rois, sides=1, **geometry)
    custom = library.use_custom(impl)
    average = library.ps_average if custom else stock.ps_average
    means = average(maps, *flatten(rois), **geometry)
    shape = tf.shape(rois)
    return tf.reshape(means, [shape[0], shape[1], maps.shape[-1] // group_size**2])


def ps_roi_pool(
    maps: Tensor,
    rois: Tensor,
    image_index: Tensor,
    *,
    group_size: int,
    pooled_size: int,
    stride: int,
) -> Tensor:
    """The reference: every bin of every ROI, (R, p, p, D) float32.

    Equals `psroi_pooling.cu` of the released MXNet operator but for bin edges in integers. Always
    stock operations. `rois` are (R, 4) and `image_index` (R,) int32 is the image of each;
    all else as in `ps_average`.
    """
    geometry: dict[str, Any] = {
        "group_size": group_size,
        "pooled_size": pooled_size,
        "stride": stride,
    }
    rois, image_index = tf.convert_to_tensor(rois), tf.convert_to_tensor(image_index)
    require(_rank_is(rois, 2), f"rois: expected shape (R, 4), found {rois.shape}")
    maps, boxes = checked(maps, rois[None], sides=1, images=False, **geometry)
    require(
        image_index.dtype == tf.int32,
        f"image_index: expected int32, found {image_index.dtype.name}",
    )
    require(
        _rank_is(image_index, 1) and tf.size(image_index) == tf.shape(rois)[0],
        f"image_index: expected one number for each ROI, found shape {image_index.shape}",
    )
    within = tf.reduce_all((image_index >= 0) & (image_index < tf.shape(maps)[0]))
    with require(within, "image_index: expected numbers of images in maps"):
        return stock.ps_roi_pool(maps, boxes[0], tf.identity(image_index), **geometry)


def checked(
    maps: Tensor,
    rois: Tensor,
    *,
    sides: int,
    group_size: int,
    pooled_size: int,
    stride: int,
    images: bool = True,
) -> tuple[Tensor, Tensor]:
    """Maps (B, Hf, Wf, k * k * sides * n) and rois (B, N, 4) as tensors that fit each other.

    Raises:
        tf.errors.InvalidArgumentError: they do not; at once where the shapes are known, else when
            the graph runs.
    """
    k = group_size
    require(1 <= k <= pooled_size, f"group_size: expected 1..{pooled_size}, found {k}")
    require(
        pooled_size <= MOST_BINS, f"pooled_size: expected at most {MOST_BINS}, found {pooled_size}"
    )
    require(
        2 <= stride <= MOST_STRIDE and stride % 2 == 0,
        f"stride: expected an even number from 2 to {MOST_STRIDE}, found {stride}",
    )
    maps, rois = tf.convert_to_tensor(maps), tf.stop_gradient(tf.convert_to_tensor(rois))
    require(
        maps.dtype in (tf.float32, tf.bfloat16),
        f"maps: expected float32 or bfloat16, found {maps.dtype.name}",
    )
    require(rois.dtype == tf.float32, f"rois: expected float32, found {rois.dtype.name}")
    require(_rank_is(maps, 4), f"maps: expected 4 dimensions, found shape {maps.shape}")
    channels, unit = maps.shape[-1], sides * k * k
    require(
        bool(channels) and channels % unit == 0,
        f"maps: expected a multiple of {unit} channels, found {channels}",
    )
    require(
        _rank_is(rois, 3) and rois.shape[-1] in (4, None) and tf.shape(rois)[-1] == 4,
        f"rois: expected shape (B, N, 4), found {rois.shape}",
    )
    same = not images or tf.shape(rois)[0] == tf.shape(maps)[0]
    with require(same, f"rois: expected as many images as maps {maps.shape}, found {rois.shape}"):
        return maps, tf.identity(rois)


def require(condition: Any, message: str) -> AbstractContextManager:
    """Raise InvalidArgumentError now if `condition` is known to be false, else when it runs.

    Operations made in the returned context wait for that.
    """
    known = tf.get_static_value(condition) if tf.is_tensor(condition) else condition
    if known is None:
        return tf.control_dependencies([tf.debugging.Assert(condition, [message])])
    if not known:
        raise tf.errors.InvalidArgumentError(None, None, message)
    return nullcontext()


def flatten(rois: Tensor) -> tuple[Tensor, Tensor]:
    """Rois (B, N, 4) as (B * N, 4) and the image (B * N,) int32 of each."""
    shape = tf.shape(rois)
    return tf.reshape(rois, [-1, 4]), tf.repeat(tf.range(shape[0]), shape[1])


def _rank_is(tensor: Tensor, rank: int) -> bool:
    return tensor.shape.rank == rank
