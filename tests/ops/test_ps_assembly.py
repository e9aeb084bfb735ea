"""Both implementations of assembly and averaging against the oracle, values and gradients."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.ops import ps_assemble, ps_average
from tests import oracle
from tests.ops.rois import NOT_FINITE, rois_at

GEOMETRIES = [(7, 21), (3, 9), (1, 5), (7, 14), (3, 8), (5, 7)]  # (k, p)
TOLERANCE = {"float32": 3e-6, "bfloat16": 3e-6}  # sums are float32 for both
GRADIENT = {"float32": 3e-6, "bfloat16": 2**-8}  # the gradient has the type of the maps
IMAGES, N = 2, 5
MODES = "eager", "graph"


@pytest.fixture(params=["stock", "custom"])
def impl(request):
    return request.param


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request):
    return request.param


def run(mode, function, maps, *arguments):
    """Values and the gradient in the maps of ``sum(value * upstream)``, eagerly or as a graph of
    unknown sizes."""

    def both(maps, rois, labels, upstream):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            values = function(maps, rois, labels)
        return values, tape.gradient(values, maps, upstream)

    if mode == "graph":
        both = tf.function(
            both,
            input_signature=[
                tf.TensorSpec([None, None, None, maps.shape[-1]], maps.dtype),
                tf.TensorSpec([None, None, 4]),
                tf.TensorSpec([None, None], tf.int32),
                tf.nest.map_structure(lambda u: tf.TensorSpec([None] * u.ndim), arguments[-1]),
            ],
        )
    return both(maps, *tf.nest.map_structure(tf.constant, arguments))


def example(rng, k, channels, stride, dtype):
    """Maps, ROIs (2, 5, 4) and the exact values that the maps hold."""
    maps = tf.cast(rng.normal(size=(IMAGES, 10, 13, k * k * channels)), dtype)
    rois = rois_at(stride).reshape(IMAGES, N, 4)
    return maps, rois, tf.cast(maps, tf.float32).numpy().astype(np.float64)


@functools.cache
def assembled(dtype, k, p, classes, labelled):
    """Arguments of an assembly, and its values and gradient by the oracle."""
    rng, stride = np.random.default_rng(0), 16 if labelled else 8
    maps, rois, exact = example(rng, k, 2 * classes, stride, dtype)
    labels = rng.integers(-1, classes, (IMAGES, N)).astype(np.int32)
    of_logits = rng.normal(size=(IMAGES, N, classes)).astype(np.float32)
    of_masks = rng.normal(size=(IMAGES, N, p, p, 2)).astype(np.float32)
    of_logits[0, 1], of_masks[0, 1] = 0.0, 0.0  # a ROI that OHEM leaves out
    of_logits[1, 0], of_masks[1, 1] = 0.0, 0.0
    index = np.repeat(np.arange(IMAGES), N)
    flat = rois.reshape(-1, 4)
    wanted = np.maximum(labels, 0).ravel() if labelled else np.full(IMAGES * N, -1)
    logits, masks, chosen = oracle.ps_assemble(exact, flat, index, wanted, k, p, stride)
    flat_upstream = of_logits.reshape(-1, classes), of_masks.reshape(-1, p, p, 2)
    slopes = oracle.ps_assemble_gradient(exact, flat, index, chosen, *flat_upstream, k, p, stride)
    return (maps, rois, labels, (of_logits, of_masks)), (logits, masks, slopes)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("k", "p"), GEOMETRIES)
@pytest.mark.parametrize("classes", [2, 5, 19])
def test_assembly_equals_the_oracle(impl, dtype, k, p, classes, labelled):
    arguments, expected = assembled(dtype, k, p, classes, labelled)

    def assemble(maps, rois, labels):
        stride = 16 if labelled else 8
        geometry = {"group_size": k, "pooled_size": p, "stride": stride, "impl": impl}
        return ps_assemble(maps, rois, labels if labelled else None, **geometry)

    atol, most = TOLERANCE[dtype], GRADIENT[dtype] * np.abs(expected[2]).max()
    for mode in MODES:
        (logits, masks), gradient = run(mode, assemble, *arguments)
        np.testing.assert_allclose(logits.numpy().reshape(-1, classes), expected[0], atol=atol)
        np.testing.assert_allclose(masks.numpy().reshape(-1, p, p, 2), expected[1], atol=atol)
        assert gradient.dtype == arguments[0].dtype
        np.testing.assert_allclose(tf.cast(gradient, tf.float32), expected[2], atol=most)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("k", "p"), GEOMETRIES)
@pytest.mark.parametrize("depth", [1, 4, 18])
def test_average_equals_the_oracle(rng, impl, dtype, mode, k, p, depth):
    maps, rois, exact = example(rng, k, depth, 16, dtype)
    upstream = rng.normal(size=(IMAGES, N, depth)).astype(np.float32)
    upstream[1, 2] = 0.0

    def average(maps, rois, _):
        return ps_average(maps, rois, group_size=k, pooled_size=p, stride=16, impl=impl)

    unused = np.zeros((IMAGES, N), np.int32)
    means, gradient = run(mode, average, maps, rois, unused, upstream)
    index, flat = np.repeat(np.arange(IMAGES), N), rois.reshape(-1, 4)
    pooled = oracle.ps_roi_pool(exact, flat, index, k, p, 16)
    np.testing.assert_allclose(
        means.numpy().reshape(-1, depth), pooled.mean((1, 2)), atol=TOLERANCE[dtype]
    )
    # The mean is linear in the maps: its gradient against any direction is its value there.
    slopes = tf.cast(gradient, tf.float32).numpy().astype(np.float64)
    for _ in range(3):
        direction = rng.normal(size=maps.shape)
        value = oracle.ps_roi_pool(direction, flat, index, k, p, 16).mean((1, 2))
        expected = (value * upstream.reshape(-1, depth)).sum()
        scale = np.abs(slopes * direction).sum()
        found = (slopes * direction).sum()
        np.testing.assert_allclose(found, expected, atol=GRADIENT[dtype] * scale)


@pytest.mark.parametrize("count", [0, 1])
def test_no_rois_give_no_values_and_a_gradient_of_zero(impl, dtype, count):
    maps = tf.ones([count, 6, 7, 9 * 4], dtype)
    geometry = {"group_size": 3, "pooled_size": 9, "stride": 16, "impl": impl}
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits, masks = ps_assemble(maps, tf.zeros([count, 0, 4]), **geometry)
        means = ps_average(maps, tf.zeros([count, 0, 4]), **geometry)
        total = tf.reduce_sum(logits) + tf.reduce_sum(masks) + tf.reduce_sum(means)
    assert logits.shape == (count, 0, 2) and masks.shape == (count, 0, 9, 9, 2)
    assert means.shape == (count, 0, 4)
    gradient = tape.gradient(total, maps)
    assert gradient.shape == maps.shape and not np.any(tf.cast(gradient, tf.float32))


def test_rois_that_are_not_finite_equal_the_oracle(rng, impl):
    maps = rng.normal(size=(1, 6, 7, 9 * 4)).astype(np.float32)
    rois = np.array([*NOT_FINITE.values()], np.float32)
    none = np.zeros(len(rois), int)
    geometry = {"group_size": 3, "pooled_size": 9, "stride": 16, "impl": impl}
    with tf.GradientTape() as tape:
        watched = tf.constant(maps)
        tape.watch(watched)
        logits, masks = ps_assemble(watched, rois[None], none[None].astype(np.int32), **geometry)
    expected = oracle.ps_assemble(maps, rois, none, none, 3, 9, 16)
    np.testing.assert_allclose(logits[0], expected[0], atol=3e-6)
    np.testing.assert_allclose(masks[0], expected[1], atol=3e-6)
    assert np.isfinite(tape.gradient([logits, masks], watched)).all()


def test_equal_sides_send_the_gradient_outside(impl):
    maps = tf.ones([1, 6, 7, 9 * 2 * 3])
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits, _ = ps_assemble(
            maps, [[[0.0, 0.0, 96.0, 112.0]]], group_size=3, pooled_size=9, stride=16, impl=impl
        )
    gradient = tape.gradient(logits, maps).numpy().reshape(1, 6, 7, 9, 2, 3)
    assert gradient[..., 0, :].any() and not gradient[..., 1, :].any()


def test_custom_gradients_do_not_depend_on_threads(rng):
    """Bit for bit: every position group is summed by one thread, in the order of the ROIs."""
    maps = tf.constant(rng.normal(size=(2, 20, 26, 49 * 10)), tf.float32)
    rois = oracle.random_boxes(rng, (2, 200), high=400.0)

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(maps)
            outputs = ps_assemble(
                maps, rois, group_size=7, pooled_size=21, stride=16, impl="custom"
            )
        return tape.gradient(outputs, maps).numpy()

    first = gradient()
    assert all(np.array_equal(first, gradient()) for _ in range(5))


WRONG = {
    "maps: expected a multiple of 18 channels, found 20": {"maps": tf.ones([1, 5, 5, 20])},
    "maps: expected 4 dimensions": {"maps": tf.ones([5, 5, 18])},
    "maps: expected float32 or bfloat16, found float64": {"maps": np.ones([1, 5, 5, 18])},
    "rois: expected shape": {"rois": tf.zeros([1, 4])},
    "rois: expected float32, found int32": {"rois": np.zeros([1, 2, 4], np.int32)},
    "rois: expected as many images as maps": {"rois": tf.zeros([3, 2, 4])},
    "labels: expected the shape": {"labels": tf.zeros([1, 3], tf.int32)},
    "labels: expected int32, found float32": {"labels": tf.zeros([1, 2])},
    "labels: expected values below 1": {"labels": tf.ones([1, 2], tf.int32)},
    "group_size: expected 1..9": {"group_size": 10},
    "pooled_size: expected at most 128": {"pooled_size": 129},
    "stride: expected an even number": {"stride": 7},
}
SOUND = {
    "maps": tf.ones([1, 5, 5, 18]),
    "rois": tf.zeros([1, 2, 4]),
    "labels": tf.zeros([1, 2], tf.int32),
    "group_size": 3,
    "pooled_size": 9,
    "stride": 8,
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(impl, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ps_assemble(**(SOUND | WRONG[message]), impl=impl)


@pytest.mark.parametrize("message", ["rois: expected as many", "labels: expected values"])
def test_what_only_the_running_graph_knows_is_named_too(impl, message):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 18]),
            tf.TensorSpec([None, None, 4]),
            tf.TensorSpec([None, None], tf.int32),
        ]
    )
    def graph(maps, rois, labels):
        return ps_assemble(maps, rois, labels, group_size=3, pooled_size=9, stride=8, impl=impl)

    found = next(value for name, value in WRONG.items() if name.startswith(message))
    given = SOUND | found
    labels = tf.zeros(given["rois"].shape[:2], tf.int32) if "rois" in found else given["labels"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        graph(given["maps"], given["rois"], labels)


def test_more_rois_than_are_assembled_at_once(rng, impl):
    maps = tf.constant(rng.normal(size=(2, 8, 9, 9 * 4)), tf.float32)
    corners = rng.uniform(-20, 140, (2, 131, 2))
    rois = np.concatenate([corners, corners + rng.uniform(0, 90, (2, 131, 2))], -1)
    rois = tf.constant(rois, tf.float32)
    labels = tf.constant(rng.integers(0, 2, (2, 131)), tf.int32)
    geometry = {"group_size": 3, "pooled_size": 9, "stride": 16, "impl": impl}
    logits, masks = ps_assemble(maps, rois, labels, **geometry)
    index = np.repeat([0, 1], 131)
    flat = rois.numpy().reshape(-1, 4)
    pooled = oracle.ps_roi_pool(maps.numpy(), flat, index, 3, 9, 16).reshape(-1, 9, 9, 2, 2)
    expected = pooled[np.arange(262), ..., labels.numpy().ravel()]
    np.testing.assert_allclose(logits.numpy().reshape(-1, 2), pooled.max(3).mean((1, 2)), atol=2e-6)
    np.testing.assert_allclose(masks.numpy().reshape(-1, 9, 9, 2), expected, atol=2e-6)
