"""Backbones with dilated last stages: image -> (conv4, conv5), both at the output stride.

ResNet-50/101/152 follow spec section 1.2 (Caffe style: the stride sits on the first 1 x 1 of a
stage, pool1 in ceil mode without padding) and carry the layer names of keras.applications. `small`
is a network of two basic blocks a stage for CPUs and for training from scratch.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fcis_tf.structures import Tensor

# RGB means subtracted from the image; there is no scaling (spec section 1.1).
PIXEL_MEANS = np.array([123.15, 115.90, 103.06], np.float32)

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
SMALL_WIDTHS = (24, 48, 96, 144)
FROZEN = ("conv1_", "conv2_")  # stages that the paper does not train

Norm = Callable[[Tensor, str], Tensor]


class GroupNorm(layers.Layer):
    """Group normalisation whose variance is the mean squared distance from the mean, in float32.

    The usual E[x^2] - E[x]^2 cancels on nearly constant images and then diverges in bfloat16.
    """

    def __init__(self, groups: int, epsilon: float = 1e-5, **options: object) -> None:
        super().__init__(**options)
        self.groups, self.epsilon = groups, epsilon

    def build(self, shape: tuple[int | None, ...]) -> None:
        width = shape[-1]
        if width is None or width % self.groups:
            raise ValueError(f"{self.name}: {width} channels do not divide into {self.groups}")
        self.gamma = self.add_weight(shape=(width,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(width,), initializer="zeros", name="beta")

    def call(self, x: Tensor) -> Tensor:
        dtype, width = x.dtype, x.shape[-1]
        x = tf.cast(x, tf.float32)
        mean = self._of_groups(tf.reduce_mean(x, [1, 2]), width)
        x -= mean[:, None, None, :]
        variance = self._of_groups(tf.reduce_mean(tf.square(x), [1, 2]), width)
        scale = tf.math.rsqrt(variance + self.epsilon) * tf.cast(self.gamma, tf.float32)
        x = x * scale[:, None, None, :] + tf.cast(self.beta, tf.float32)
        return tf.cast(x, dtype)

    def _of_groups(self, per_channel: Tensor, width: int) -> Tensor:
        """Average (B, width) over each group, repeated for its channels."""
        size = width // self.groups
        mean = tf.reduce_mean(tf.reshape(per_channel, [-1, self.groups, size]), -1)
        return tf.repeat(mean, size, axis=1)


class FrozenBatchNorm(layers.BatchNormalization):
    """Batch normalisation with fixed statistics also in training; gamma and beta can learn."""

    def call(self, x: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        # A functional model hands its own `training` to every layer, hence not a call argument.
        return super().call(x, training=False, mask=mask)


class CeilMaxPool(layers.Layer):
    """3 x 3 max pooling with stride 2, no padding, last window cut at the border (spec 1.2)."""

    def call(self, x: Tensor) -> Tensor:
        # Zeros never win a window: the inputs are post-ReLU.
        odd = 1 - tf.shape(x)[1:3] % 2
        x = tf.pad(x, [[0, 0], [0, odd[0]], [0, odd[1]], [0, 0]])
        return tf.nn.max_pool2d(x, 3, 2, "VALID")


def build_backbone(name: str, *, norm: str, output_stride: int, dtype: str) -> keras.Model:
    """A keras.Model from images (B, H, W, 3) to (conv4, conv5).

    Args:
        name: resnet50, resnet101, resnet152 or small.
        norm: frozen_batch (fixed statistics; stages 1 and 2 frozen; gamma and beta of the later
            ones trained), group, or sync_batch.
        output_stride: 16 or 8 network pixels per cell of both outputs.
        dtype: a Keras dtype policy, float32 or mixed_bfloat16.
    """
    build = _small if name == "small" else _resnet
    return build(name, _normaliser(norm, dtype), norm, output_stride, dtype)


def _normaliser(norm: str, dtype: str) -> Norm:
    if norm == "group":
        return lambda x, name: GroupNorm(8, name=name, dtype=dtype)(x)

    kind = FrozenBatchNorm if norm == "frozen_batch" else layers.BatchNormalization
    more = {} if norm == "frozen_batch" else {"synchronized": True}
    return lambda x, name: kind(epsilon=1e-5, name=name, dtype=dtype, **more)(x)


def _convolve(
    x: Tensor, width: int, size: int, name: str, dtype: str, stride: int = 1, dilation: int = 1
) -> Tensor:
    """A convolution without bias, padded by the same amount on all sides."""
    pad = dilation * (size - 1) // 2
    if stride == 1:
        padding = "same"
    else:
        padding = "valid"
        if pad:
            x = layers.ZeroPadding2D(pad, name=f"{name}_pad", dtype=dtype)(x)
    return layers.Conv2D(
        width,
        size,
        strides=stride,
        dilation_rate=dilation,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
        dtype=dtype,
    )(x)


def _relu(x: Tensor, name: str, dtype: str) -> Tensor:
    return layers.Activation("relu", name=name, dtype=dtype)(x)


def _resnet(name: str, normalise: Norm, norm: str, output_stride: int, dtype: str) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    x = _convolve(image, 64, 7, "conv1_conv", dtype, stride=2)
    x = _relu(normalise(x, "conv1_bn"), "conv1_relu", dtype)
    x = CeilMaxPool(name="pool1_pool", dtype=dtype)(x)
    strides = (1, 2, 16 // 8 if output_stride == 16 else 1, 1)
    outputs, dilation = [], 1
    for stage, (blocks, stride) in enumerate(zip(BLOCKS[name], strides, strict=True), start=2):
        if stage > 3 and stride == 1:
            dilation *= 2
        for block in range(1, blocks + 1):
            first = stride if block == 1 else 1
            at = f"conv{stage}_block{block}"
            x = _bottleneck(
                x, 64 * 2 ** (stage - 2), at, block == 1, first, dilation, normalise, dtype
            )
        outputs.append(x)
    model = keras.Model(image, outputs[-2:], name=name)
    if norm == "frozen_batch":
        for layer in model.layers:
            layer.trainable = not layer.name.startswith(FROZEN)
    return model


def _bottleneck(
    x: Tensor,
    width: int,
    at: str,
    project: bool,
    stride: int,
    dilation: int,
    normalise: Norm,
    dtype: str,
) -> Tensor:
    shortcut = x
    if project:
        shortcut = _convolve(x, 4 * width, 1, f"{at}_0_conv", dtype, stride)
        shortcut = normalise(shortcut, f"{at}_0_bn")
    x = _convolve(x, width, 1, f"{at}_1_conv", dtype, stride)
    x = _relu(normalise(x, f"{at}_1_bn"), f"{at}_1_relu", dtype)
    x = _convolve(x, width, 3, f"{at}_2_conv", dtype, dilation=dilation)
    x = _relu(normalise(x, f"{at}_2_bn"), f"{at}_2_relu", dtype)
    x = normalise(_convolve(x, 4 * width, 1, f"{at}_3_conv", dtype), f"{at}_3_bn")
    return _relu(layers.Add(name=f"{at}_add", dtype=dtype)([shortcut, x]), f"{at}_out", dtype)


def _small(name: str, normalise: Norm, norm: str, output_stride: int, dtype: str) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 64, name="rescale", dtype=dtype)(image)
    x = _convolve(x, SMALL_WIDTHS[0], 3, "conv1_conv", dtype, stride=2)
    x = _relu(normalise(x, "conv1_bn"), "conv1_relu", dtype)
    strides = (2, 2, 1, 1) if output_stride == 8 else (2, 2, 2, 1)
    outputs, dilation = [], 1
    for stage, (width, stride) in enumerate(zip(SMALL_WIDTHS, strides, strict=True), start=2):
        dilation *= 2 if stride == 1 else 1
        for block in (1, 2):
            first = stride if block == 1 else 1
            at = f"conv{stage}_block{block}"
            x = _basic(x, width, at, block == 1, first, dilation, normalise, dtype)
        outputs.append(x)
    return keras.Model(image, outputs[-2:], name=name)


def _basic(
    x: Tensor,
    width: int,
    at: str,
    project: bool,
    stride: int,
    dilation: int,
    normalise: Norm,
    dtype: str,
) -> Tensor:
    shortcut = x
    if project:
        shortcut = normalise(_convolve(x, width, 1, f"{at}_0_conv", dtype, stride), f"{at}_0_bn")
    x = _convolve(x, width, 3, f"{at}_1_conv", dtype, stride, dilation)
    x = _relu(normalise(x, f"{at}_1_bn"), f"{at}_1_relu", dtype)
    x = normalise(_convolve(x, width, 3, f"{at}_2_conv", dtype, 1, dilation), f"{at}_2_bn")
    return _relu(layers.Add(name=f"{at}_add", dtype=dtype)([shortcut, x]), f"{at}_out", dtype)
