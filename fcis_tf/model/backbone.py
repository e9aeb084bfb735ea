"""Backbones with dilated last stages: image -> (conv4, conv5), both at the output stride.

ResNet-50/101/152 follow spec section 1.2 (Caffe style: the stride sits on the first 1 x 1 of a
stage, pool1 in ceil mode without padding) and carry the layer names of keras.applications. `small`
is a network of two basic blocks a stage for CPUs and for training from scratch.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from keras import layers

from fcis_tf.structures import Tensor

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
RESNET_WIDTHS = (64, 128, 256, 512)
SMALL_WIDTHS = (24, 48, 96, 144)
FROZEN = 2  # stages that the paper does not train


@keras.saving.register_keras_serializable("fcis_tf")
class GroupNorm(layers.GroupNormalization):
    """Keras' layer, under the name that it has in weight files: Keras writes the class there.

    It computes in float32, and its variance is the mean squared distance from the mean: the usual
    E[x^2] - E[x]^2 cancels on nearly constant images and then diverges in bfloat16.
    """


@keras.saving.register_keras_serializable("fcis_tf")
class FrozenBatchNorm(layers.BatchNormalization):
    """Batch normalisation with fixed statistics also in training; gamma and beta can learn."""

    def call(self, x: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        # A functional model hands its own `training` to every layer, hence not a call argument.
        return super().call(x, training=False, mask=mask)


@keras.saving.register_keras_serializable("fcis_tf")
class CeilMaxPool(layers.Layer):
    """3 x 3 max pooling with stride 2, no padding, last window cut at the border (`pool1` of the
    released network)."""

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
            ones trained), group, sync_batch, or folded (none, and convolutions with a bias).
        output_stride: 16 or 8 network pixels per cell of both outputs.
        dtype: a Keras dtype policy, float32, mixed_bfloat16 or mixed_float16.
    """
    image = keras.Input((None, None, 3), name="image")
    build = _small if name == "small" else _resnet
    model = keras.Model(image, build(image, name, _Layers(norm, dtype), output_stride), name=name)
    if norm == "frozen_batch":
        freeze(model, FROZEN)
    return model


def freeze(backbone: keras.Model, stages: int) -> None:
    """Let training leave the first so many of the stages conv1 to conv5 as they are.

    That includes the statistics of their normalisation.
    """
    frozen = tuple(f"conv{number}_" for number in range(1, stages + 1))
    for layer in backbone.layers:
        layer.trainable = not layer.name.startswith(frozen)


def _resnet(image: Tensor, name: str, make: "_Layers", output_stride: int) -> list[Tensor]:
    x = make.unit(image, RESNET_WIDTHS[0], 7, "conv1", stride=2)
    x = CeilMaxPool(name="pool1_pool", dtype=make.dtype)(x)
    strides = (1, 2, 2, 1) if output_stride == 16 else (1, 2, 1, 1)
    return _stages(x, make.bottleneck, BLOCKS[name], RESNET_WIDTHS, strides)


def _small(image: Tensor, name: str, make: "_Layers", output_stride: int) -> list[Tensor]:
    x = layers.Rescaling(1 / 64, name="rescale", dtype=make.dtype)(image)
    x = make.unit(x, SMALL_WIDTHS[0], 3, "conv1", stride=2)
    strides = (2, 2, 2, 1) if output_stride == 16 else (2, 2, 1, 1)
    return _stages(x, make.basic, (2, 2, 2, 2), SMALL_WIDTHS, strides)


def _stages(
    x: Tensor,
    block: Callable[..., Tensor],
    counts: Sequence[int],
    widths: Sequence[int],
    strides: Sequence[int],
) -> list[Tensor]:
    """Stages conv2 to conv5; returns the last two. A stage that keeps its stride dilates instead.

    All blocks of such a stage are dilated, the first one too, as `get_resnet_v1_conv5` in the
    released resnet_v1_101_fcis.py.
    """
    outputs, dilation = [], 1
    for stage, count, width, stride in zip((2, 3, 4, 5), counts, widths, strides, strict=True):
        if stage > 3 and stride == 1:
            dilation *= 2
        for number in range(1, count + 1):
            first = number == 1
            x = block(
                x,
                width,
                f"conv{stage}_block{number}",
                project=first,
                stride=stride if first else 1,
                dilation=dilation,
            )
        outputs.append(x)
    return outputs[-2:]


class _Layers:
    """Makes layers of one normalisation and dtype, named as in keras.applications."""

    def __init__(self, norm: str, dtype: str) -> None:
        self.norm, self.dtype = norm, dtype

    def unit(
        self,
        x: Tensor,
        width: int,
        size: int,
        name: str,
        *,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = True,
    ) -> Tensor:
        """Convolution, normalisation and, by default, ReLU."""
        x = self.normalise(self.convolve(x, width, size, f"{name}_conv", stride, dilation), name)
        return self.relu(x, f"{name}_relu") if relu else x

    def bottleneck(
        self, x: Tensor, width: int, name: str, *, project: bool, stride: int, dilation: int
    ) -> Tensor:
        """1 x 1, 3 x 3, 1 x 1 with the stride on the first (Caffe style)."""
        shortcut = x
        if project:
            shortcut = self.unit(x, 4 * width, 1, f"{name}_0", stride=stride, relu=False)
        x = self.unit(x, width, 1, f"{name}_1", stride=stride)
        x = self.unit(x, width, 3, f"{name}_2", dilation=dilation)
        return self.join(shortcut, self.unit(x, 4 * width, 1, f"{name}_3", relu=False), name)

    def basic(
        self, x: Tensor, width: int, name: str, *, project: bool, stride: int, dilation: int
    ) -> Tensor:
        """Two 3 x 3 convolutions."""
        shortcut = x
        if project:
            shortcut = self.unit(x, width, 1, f"{name}_0", stride=stride, relu=False)
        x = self.unit(x, width, 3, f"{name}_1", stride=stride, dilation=dilation)
        x = self.unit(x, width, 3, f"{name}_2", dilation=dilation, relu=False)
        return self.join(shortcut, x, name)

    def join(self, shortcut: Tensor, x: Tensor, name: str) -> Tensor:
        added = layers.Add(name=f"{name}_add", dtype=self.dtype)([shortcut, x])
        return self.relu(added, f"{name}_out")

    def relu(self, x: Tensor, name: str) -> Tensor:
        return layers.Activation("relu", name=name, dtype=self.dtype)(x)

    def normalise(self, x: Tensor, name: str) -> Tensor:
        name = f"{name}_bn"
        if self.norm == "folded":
            return x
        if self.norm == "group":
            return GroupNorm(8, epsilon=1e-5, name=name, dtype=self.dtype)(x)
        if self.norm == "frozen_batch":
            return FrozenBatchNorm(epsilon=1e-5, name=name, dtype=self.dtype)(x)
        return layers.BatchNormalization(
            epsilon=1e-5, name=name, dtype=self.dtype, synchronized=True
        )(x)

    def convolve(
        self, x: Tensor, width: int, size: int, name: str, stride: int, dilation: int
    ) -> Tensor:
        """Padded by the same amount on all sides, also with a stride."""
        pad = dilation * (size - 1) // 2
        folded = self.norm == "folded"
        if stride > 1 and pad:
            x = layers.ZeroPadding2D(pad, name=f"{name}_pad", dtype=self.dtype)(x)
        return layers.Conv2D(
            width,
            size,
            strides=stride,
            dilation_rate=dilation,
            padding="same" if stride == 1 else "valid",
            use_bias=folded,
            kernel_initializer="zeros" if folded else "he_normal",
            name=name,
            dtype=self.dtype,
        )(x)
