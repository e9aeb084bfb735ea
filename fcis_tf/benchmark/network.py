"""A network with random weights and as many proposals and detections as a trained one."""

import keras
import numpy as np
import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.data.pipeline import network_input
from fcis_tf.model.fcis import FCIS
from fcis_tf.structures import Tensor

# With batch-norm statistics 0 and 1 every residual block doubles the variance of the features;
# regressed boxes then cover the whole image and suppression keeps only a few of them.
RESIDUAL_GAMMA = 0.2


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A uint8 (H, W, 3) image of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def as_predicted(image: np.ndarray, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """A uint8 image as input of the network: pixels (1, H, W, 3), size (1, 2) and scale (1,)."""
    pixels, scale = network_input(image, config.data)
    return pixels[None], tf.cast(tf.shape(pixels)[:2], tf.float32)[None], scale[None]


def random_network(config: Config, image: np.ndarray, *, ops: str = "auto") -> FCIS:
    """A network of random weights, scaled so that features have about unit variance on `image`.

    Proposals are then spread over the image, so that suppression and voting do as much work as with
    a trained network.

    Args:
        config: with `model.classes`.
        image: (H, W, 3) uint8 RGB.
        ops: as in `FCIS`.
    """
    keras.utils.set_random_seed(config.train.seed)
    model = FCIS(config, ops=ops)
    norms = [layer for layer in model.backbone.layers if layer.name.endswith("_bn")]
    norms = [norm for norm in norms if isinstance(norm, keras.layers.BatchNormalization)]
    if not norms:
        return model
    for norm in norms:
        if norm.name.endswith("_3_bn"):
            norm.gamma.assign(norm.gamma * RESIDUAL_GAMMA)
    # Pixels range from -128 to 127. Dividing once, at the first normalisation, scales all later
    # layers, because only ReLU, convolutions and sums follow.
    conv4, _ = model.backbone(as_predicted(image, config)[0])
    norms[0].gamma.assign(norms[0].gamma / tf.math.reduce_std(tf.cast(conv4, tf.float32)))
    return model
