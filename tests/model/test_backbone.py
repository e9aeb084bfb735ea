import keras
import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.model.backbone import CeilMaxPool, GroupNorm, build_backbone


@pytest.fixture(scope="module")
def resnet50():
    return build_backbone("resnet50", norm="frozen_batch", output_stride=16, dtype="float32")


def reference_sizes(side):
    """Cells of conv4 by the released padding and pooling (`get_resnet_v1_conv4`)."""
    conv1 = (side - 1) // 2 + 1
    pool = -((3 - conv1) // 2) + 1
    return ((pool - 1) // 2 + 1 - 1) // 2 + 1


@pytest.mark.parametrize(
    ("side", "cells"), [(600, 38), (1000, 63), (563, 36), (333, 21), (450, 28)]
)
def test_feature_sizes_are_those_of_the_released_network(resnet50, side, cells):
    conv4, conv5 = resnet50.compute_output_shape((1, side, 16, 3))
    found = resnet50(tf.zeros([1, side, 16, 3]))
    assert reference_sizes(side) == cells
    assert found[0].shape[1:] == (cells, 1, 1024) and found[1].shape[1:] == (cells, 1, 2048)


def test_layer_names_are_those_of_keras_applications(resnet50):
    def weighted(model):
        return {w.path.split("/")[-2] for w in model.weights}

    assert weighted(resnet50) == weighted(
        keras.applications.ResNet50(weights=None, include_top=False)
    )


def test_dilated_conv5_holds_the_strided_one(rng, resnet50):
    """Every second cell of the dilated stage equals keras.applications' strided one."""
    theirs = keras.applications.ResNet50(weights=None, include_top=False)
    for layer in theirs.layers:
        if layer.name.startswith("conv5") and layer.get_weights():
            ours = resnet50.get_layer(layer.name)
            if layer.name.endswith("bn"):
                weights = [rng.uniform(0.5, 1.5, w.shape) for w in ours.get_weights()]
                ours.set_weights(weights)
                layer.set_weights(weights)
            else:
                layer.set_weights([*ours.get_weights(), np.zeros(layer.bias.shape)])
    conv4 = rng.normal(size=(1, 15, 18, 1024)).astype(np.float32)
    strided = keras.Model(
        theirs.get_layer("conv4_block6_out").output, theirs.get_layer("conv5_block3_out").output
    )(conv4)
    dilated = keras.Model(
        resnet50.get_layer("conv4_block6_out").output, resnet50.get_layer("conv5_block3_out").output
    )(conv4)
    scale = np.abs(strided).max()
    np.testing.assert_allclose(dilated[:, ::2, ::2] / scale, strided / scale, atol=1e-4)


def test_output_stride_8_holds_the_one_of_16(rng):
    """The same weights at stride 8 give the features of stride 16 on every second cell."""
    coarse = build_backbone("resnet50", norm="frozen_batch", output_stride=16, dtype="float32")
    fine = build_backbone("resnet50", norm="frozen_batch", output_stride=8, dtype="float32")
    fine.set_weights(coarse.get_weights())
    image = rng.normal(size=(1, 129, 97, 3)).astype(np.float32)
    for a, b in zip(coarse(image), fine(image), strict=True):
        scale = np.abs(a).max()
        np.testing.assert_allclose(b[:, ::2, ::2] / scale, a / scale, atol=1e-4)


def test_frozen_batch_norm_trains_what_the_released_code_trains(resnet50):
    trained = {w.path.split("/")[-2] for w in resnet50.trainable_weights}
    assert not any(name.startswith(("conv1", "conv2")) for name in trained)
    assert {"conv3_block1_1_bn", "conv5_block3_3_bn", "conv4_block2_2_conv"} <= trained
    assert all(w.name in ("kernel", "gamma", "beta") for w in resnet50.trainable_weights)


def test_frozen_statistics_stay_in_training(rng, resnet50):
    before = resnet50.get_weights()
    image = rng.normal(size=(2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(resnet50(image, training=True)[1], resnet50(image)[1])
    for old, new in zip(before, resnet50.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("side", [7, 8, 9, 10, 11])
def test_ceil_max_pool_equals_a_loop(rng, side):
    x = rng.uniform(size=(1, side, side + 1, 2)).astype(np.float32)
    found = CeilMaxPool()(x).numpy()
    rows, columns = -((3 - side) // 2) + 1, -((3 - side - 1) // 2) + 1
    assert found.shape == (1, rows, columns, 2)
    for i in range(rows):
        for j in range(columns):
            window = x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            np.testing.assert_array_equal(found[0, i, j], window.max((0, 1)))


@pytest.mark.parametrize(
    ("dtype", "mean", "tolerance"), [("float32", 4096.0, 1e-3), ("mixed_bfloat16", 256.0, 1e-2)]
)
def test_group_norm_does_not_cancel_on_a_nearly_constant_image(dtype, mean, tolerance):
    """A mean of 256 and a deviation of 1, squared in bfloat16, differ by less than one unit."""
    x = np.full((1, 16, 16, 8), mean, np.float32)
    x[:, ::2] += 2.0  # bfloat16 holds 256 and 258
    norm = GroupNorm(8, epsilon=1e-5, dtype=dtype)
    found = np.asarray(tf.cast(norm(tf.cast(x, norm.compute_dtype)), tf.float32))
    np.testing.assert_allclose(found[:, ::2], 1.0, atol=tolerance)
    np.testing.assert_allclose(found[:, 1::2], -1.0, atol=tolerance)


def test_group_norm_is_the_formula(rng):
    x = rng.normal(2.0, 3.0, size=(3, 5, 6, 16)).astype(np.float32)
    norm = GroupNorm(8, epsilon=1e-5)
    norm(x)
    gamma, beta = rng.normal(size=(2, 16))
    norm.set_weights([gamma, beta])
    groups = x.astype(np.float64).reshape(3, 30, 8, 2)
    mean, variance = (f(groups, (1, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape) * gamma + beta
    np.testing.assert_allclose(norm(x), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [8, 16])
def test_small_backbone_reaches_its_stride(stride):
    net = build_backbone("small", norm="group", output_stride=stride, dtype="float32")
    conv4, conv5 = net(tf.zeros([1, 160, 96, 3]))
    assert conv4.shape[1:3] == conv5.shape[1:3] == (160 // stride, 96 // stride)
