"""Position-sensitive pooling and assembly in stock TensorFlow operations.

A ROI is cut into p x p bins; bin (q, c) averages the whole feature cells it touches, in the map of
its position group (q * k // p, c * k // p), as `psroi_pooling.cu` of the released MXNet operator
does. Bin edges are computed in integers: float edges, as there, differ by whole cells between
compilers.

Where bins are finer than cells, neighbours of one group often touch the same cells; such bins are
averaged once.

Shapes: B images of Hf x Wf cells, R ROIs, T distinct bins, C cells of all distinct bins, K classes,
D channels of one position group.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from fcis_tf.structures import Tensor

# ROI corners are cut to this many pixels so that edge arithmetic fits into int32.
FAR = 1_000_000.0
# ROIs whose bins are in memory at once, some 30 MB of 81 classes.
PART = 100


class Bins(NamedTuple):
    """Feature cells covered by the bins of one axis: ``low <= cell < high``, both (R, p) int32."""

    low: Tensor
    high: Tensor


class Runs(NamedTuple):
    """Neighbouring bins of one axis that read the same cells of the same group; all (R, p)."""

    first: Tensor  # bool: the bin is the first of its run
    number: Tensor  # int32: which run of its ROI
    length: Tensor  # int32: bins in the run


class Pooled(NamedTuple):
    """The averages of all distinct bins, T in number, ROI by ROI and row by row."""

    values: Tensor  # (T, D) float32, 0 outside the map
    roi: Tensor  # (T,) int32
    share: Tensor  # (T,) float32: how much of the bins of its ROI reads this
    row: Tensor  # (R, p, p) int32: the row of `values` that a bin reads


def ps_roi_pool(maps: Tensor, rois: Tensor, image_index: Tensor, **geometry: Any) -> Tensor:
    """All bins, (R, p, p, D) float32; arguments as in `pool_distinct`."""
    pooled = pool_distinct(maps, rois, image_index, **geometry)
    return tf.gather(pooled.values, pooled.row)


def ps_assemble(
    maps: Tensor, rois: Tensor, image_index: Tensor, labels: Tensor, **geometry: Any
) -> tuple[Tensor, Tensor]:
    """Class logits (R, K) and mask logits (R, p, p, 2); a label of -1 is the best foreground class.

    Arguments as in `pool_distinct`, the channels (gy, gx, side, class), and labels (R,) int32.
    """
    k, p = geometry["group_size"], geometry["pooled_size"]
    classes = maps.shape[-1] // (2 * k * k)
    signature = tf.TensorSpec([None, classes]), tf.TensorSpec([None, p, p, 2])
    maps = tf.cast(maps, tf.float32)  # once, not in every part
    assemble = partial(_assemble, maps, classes=classes, **geometry)
    return _in_parts(assemble, (rois, image_index, labels), signature)


def _assemble(
    maps: Tensor,
    rois: Tensor,
    image_index: Tensor,
    labels: Tensor,
    *,
    classes: int,
    **geometry: Any,
) -> tuple[Tensor, Tensor]:
    pooled = pool_distinct(maps, rois, image_index, **geometry)
    sides = tf.reshape(pooled.values, [-1, 2, classes])  # (T, outside and inside, K)
    # On a tie the outside map takes the gradient, as in the released code.
    evidence = tf.maximum(sides[:, 0], sides[:, 1])  # (T, K)
    class_logits = tf.math.segment_sum(evidence * pooled.share[:, None], pooled.roi)  # (R, K)
    # Both sides of one class: of the label, or of the best foreground class.
    best = tf.argmax(class_logits[:, 1:], -1, output_type=tf.int32) + 1 if classes > 1 else 0
    chosen = tf.gather(tf.where(labels < 0, best, labels), pooled.roi)  # (T,)
    masks = tf.gather(sides, chosen, axis=2, batch_dims=1)  # (T, 2)
    return class_logits, tf.gather(masks, pooled.row)  # (R, K), (R, p, p, 2)


def ps_average(maps: Tensor, rois: Tensor, image_index: Tensor, **geometry: Any) -> Tensor:
    """Mean (R, D) over all bins; arguments as in `pool_distinct`."""
    maps = tf.cast(maps, tf.float32)  # once, not in every part

    def average(rois: Tensor, image_index: Tensor) -> Tensor:
        pooled = pool_distinct(maps, rois, image_index, **geometry)
        return tf.math.segment_sum(pooled.values * pooled.share[:, None], pooled.roi)  # (R, D)

    depth = maps.shape[-1] // geometry["group_size"] ** 2
    return _in_parts(average, (rois, image_index), tf.TensorSpec([None, depth]))


def _in_parts(function: Callable[..., Any], of_rois: tuple[Tensor, ...], signature: Any) -> Any:
    """``function(*of_rois)`` for `PART` ROIs at a time.

    Parts run side by side, as pooling has one thread only; and they bound the memory.
    """
    count = tf.shape(of_rois[0])[0]
    parts = tf.maximum(1, -(-count // PART))
    each = -(-count // parts)

    def part(values: Tensor) -> Tensor:
        """(R, ...) as (parts, each, ...), padded with zeros."""
        padding = [[0, parts * each - count]] + [[0, 0]] * (values.shape.rank - 1)
        return tf.reshape(tf.pad(values, padding), [parts, each, *values.shape[1:]])

    def join(values: Tensor) -> Tensor:
        """(parts, each, ...) as (R, ...)."""
        return tf.reshape(values, [-1, *values.shape[2:]])[:count]

    made = tf.map_fn(
        lambda some: function(*some), tuple(map(part, of_rois)), fn_output_signature=signature
    )
    return tf.nest.map_structure(join, made)


def pool_distinct(
    maps: Tensor,
    rois: Tensor,
    image_index: Tensor,
    *,
    group_size: int,
    pooled_size: int,
    stride: int,
) -> Pooled:
    """Average position-sensitive maps inside the bins of each ROI.

    Args:
        maps: (B, Hf, Wf, k * k * D) float32 or bfloat16, channels (gy, gx, d).
        rois: (R, 4) in network pixels; corners are rounded to whole pixels, half away from zero.
        image_index: (R,) int32, the image of each ROI, in 0..B-1.
        group_size: k.
        pooled_size: p, at least k.
        stride: network pixels per feature cell, even.

    Returns:
        The averages, differentiable in `maps` only.
    """
    k, p = group_size, pooled_size
    count, shape = tf.shape(rois)[0], tf.shape(maps)
    rows, columns = shape[1], shape[2]
    rois = tf.cast(tf.stop_gradient(rois), tf.float32)  # (R, 4)
    y_bins = bin_edges(rois[:, 0], rois[:, 2], rows, pooled_size=p, stride=stride)  # (R, p) each
    x_bins = bin_edges(rois[:, 1], rois[:, 3], columns, pooled_size=p, stride=stride)

    # A bin is distinct if it is the first of its run on both axes.
    groups = tf.constant([b * k // p for b in range(p)], tf.int32)  # (p,) group of each bin
    y_runs, x_runs = _runs(y_bins, groups), _runs(x_bins, groups)  # (R, p) each
    first = _grid(tf.logical_and, y_runs.first, x_runs.first)  # (R, p, p)
    distinct = tf.where(tf.reshape(first, [-1]))[:, 0]  # (T,) places in R * p * p

    def pick(values: Tensor) -> Tensor:
        """Values of all bins (R, p, p) to those of the distinct bins (T,)."""
        return tf.gather(tf.reshape(values, [-1]), distinct)

    # The first cell of each distinct bin: a row of the maps as (B * Hf * Wf * k * k, D).
    heights, widths = y_bins.high - y_bins.low, x_bins.high - x_bins.low  # (R, p)
    corners = _grid(tf.add, (image_index[:, None] * rows + y_bins.low) * columns, x_bins.low)
    corners = pick(corners * (k * k) + (groups[:, None] * k + groups[None, :]))  # (T,)
    cells = pick(_grid(tf.multiply, heights, widths))  # (T,) cells in each bin

    # One entry for every cell of every distinct bin: its bin, and its row of the maps.
    bins = tf.shape(cells)[0]  # T
    owner = tf.repeat(tf.range(bins), cells)  # (C,)
    step = tf.range(tf.shape(owner)[0]) - tf.gather(tf.cumsum(cells, exclusive=True), owner)
    width = tf.gather(pick(tf.tile(widths[:, None, :], [1, p, 1])), owner)  # (C,)
    down = step // width  # (C,) row within the bin; step - down * width is the column
    places = tf.gather(corners, owner) + (down * columns + step - down * width) * (k * k)  # (C,)

    flat = tf.reshape(tf.cast(maps, tf.float32), [-1, maps.shape[-1] // (k * k)])
    # Distinct bins of a ROI are numbered row by row, after those of the ROIs before it.
    across = x_runs.number[:, -1] + 1  # (R,) distinct columns
    before = tf.cumsum((y_runs.number[:, -1] + 1) * across, exclusive=True)  # (R,)
    return Pooled(
        values=_means(flat, places, owner, bins),
        roi=pick(tf.tile(tf.range(count)[:, None, None], [1, p, p])),
        share=tf.cast(pick(_grid(tf.multiply, y_runs.length, x_runs.length)), tf.float32) / (p * p),
        row=_grid(tf.add, before[:, None] + y_runs.number * across[:, None], x_runs.number),
    )


@tf.custom_gradient
def _means(flat: Tensor, places: Tensor, owner: Tensor, bins: Tensor) -> tuple[Tensor, Any]:
    """Mean (T, D) of the rows ``flat[places]`` of each owner, 0 for an owner without rows."""

    def gradient(upstream: Tensor) -> tuple[Tensor, None, None, None]:
        # TensorFlow leaves the gradient of no rows at all unset.
        into = tf.cond(
            tf.size(places) > 0,
            lambda: tf.raw_ops.SparseSegmentMeanGrad(
                grad=upstream, indices=places, segment_ids=owner, output_dim0=tf.shape(flat)[0]
            ),
            lambda: tf.zeros_like(flat),
        )
        return into, None, None, None

    return tf.sparse.segment_mean(flat, places, owner, num_segments=bins), gradient


def _grid(function: Callable[..., Tensor], y: Tensor, x: Tensor) -> Tensor:
    """(R, p) of each axis to (R, p, p)."""
    return function(y[:, :, None], x[:, None, :])


def _runs(bins: Bins, groups: Tensor) -> Runs:
    """Runs of bins with the edges and the group of the bin before them."""
    differs = (bins.low[:, 1:] != bins.low[:, :-1]) | (bins.high[:, 1:] != bins.high[:, :-1])
    differs |= groups[1:] != groups[:-1]  # (R, p - 1)
    first = tf.pad(differs, [[0, 0], [1, 0]], constant_values=True)  # (R, p)
    number = tf.cumsum(tf.cast(first, tf.int32), axis=1) - 1
    same = number[:, :, None] == number[:, None, :]  # (R, p, p) pairs of one run
    return Runs(first, number, tf.reduce_sum(tf.cast(same, tf.int32), -1))


def bin_edges(low: Tensor, high: Tensor, cells: Tensor, *, pooled_size: int, stride: int) -> Bins:
    """The feature cells that each bin of an axis touches.

    In units of 1 / (5 * p * stride) of a cell all quantities are integers; the factor 5 is there
    for the least extent of a ROI, one tenth of a cell as in the released operator.

    Args:
        low: (R,) lower ROI edge in network pixels.
        high: (R,) upper edge.
        cells: number of cells along the axis.
        pooled_size: p.
        stride: network pixels per cell, even.

    Returns:
        Half-open ranges of cells, cut to the map.
    """
    p = pooled_size
    start, end = _round_half_away(low), _round_half_away(high)
    # The extent of one bin: 5 for each pixel of the ROI, stride / 2 for a tenth of a cell.
    extent = tf.maximum(5 * (end - start), stride // 2)  # (R,)
    index = tf.range(p)[None, :]
    origin = 5 * p * start[:, None]  # (R, 1)
    unit = 5 * p * stride  # of one cell
    # The floor of where each bin starts, the ceiling of where it ends: (R, p).
    first = (origin + index * extent[:, None]) // unit
    last = -(-(origin + (index + 1) * extent[:, None]) // unit)
    return Bins(tf.clip_by_value(first, 0, cells), tf.clip_by_value(last, 0, cells))


def _round_half_away(values: Tensor) -> Tensor:
    """The nearest whole pixel (R,) int32, halves away from zero; NaN is 0."""
    finite = tf.where(tf.math.is_nan(values), 0.0, tf.clip_by_value(values, -FAR, FAR))
    whole = tf.floor(tf.abs(finite))
    # Adding 0.5 first would itself round up just below a half.
    whole += tf.cast(tf.abs(finite) - whole >= 0.5, tf.float32)
    return tf.cast(tf.sign(finite) * whole, tf.int32)
