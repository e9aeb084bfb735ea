"""ImageNet weights of keras.applications."""

import re
from pathlib import Path

import h5py
import keras
import numpy as np

from fcis_tf.errors import FcisError
from fcis_tf.model.backbone import BLOCKS

KERAS_EPSILON, OUR_EPSILON = 1.001e-5, 1e-5  # of batch normalisation
NETWORKS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "resnet152": "ResNet152"}


def from_keras(model: keras.Model) -> dict[str, np.ndarray]:
    """Backbone weights of a keras.applications ResNet, as the same function of an RGB image.

    Its convolutions have biases, which go into the batch normalisation's means; its first layer
    takes BGR; its epsilon is another, which goes into the variances.
    """
    found: dict[str, np.ndarray] = {}
    for layer in model.layers:
        values = {v.name: v.numpy() for v in layer.weights}
        if layer.name.endswith("_conv"):
            found[f"{layer.name}/kernel"] = values["kernel"]
        elif layer.name.endswith("_bn"):
            convolution = model.get_layer(layer.name.removesuffix("bn") + "conv")
            bias = convolution.bias.numpy() if convolution.use_bias else 0.0
            found |= {f"{layer.name}/{name}": values[name] for name in ("gamma", "beta")}
            found[f"{layer.name}/moving_mean"] = values["moving_mean"] - bias
            variance = values["moving_variance"] + (KERAS_EPSILON - OUR_EPSILON)
            found[f"{layer.name}/moving_variance"] = variance
    found["conv1_conv/kernel"] = found["conv1_conv/kernel"][:, :, ::-1]
    return found


def download(name: str) -> keras.Model:
    """The network of keras.applications, such as resnet101, with weights from Keras' server."""
    if name not in NETWORKS:
        raise FcisError(f"keras:{name}: expected one of {', '.join(NETWORKS)} after 'keras:'")
    try:
        return getattr(keras.applications, NETWORKS[name])(weights="imagenet", include_top=False)
    except Exception as fault:  # Keras raises a bare Exception when a download fails
        text = " ".join(str(fault).split())[:160]
        raise FcisError(
            f"keras:{name}: Keras cannot fetch the weights ({text}); download the .h5 file "
            "elsewhere and name its path"
        ) from None


def read_file(path: Path) -> keras.Model:
    """The keras.applications network that a ``.h5`` file belongs to, with its weights."""
    names: list[str] = []
    try:
        with h5py.File(path) as file:
            file.visit(names.append)
    except OSError as fault:
        raise FcisError(f"{path}: not an HDF5 file ({' '.join(str(fault).split())})") from None
    text = "\n".join(names)
    blocks = max((int(m) for m in re.findall(r"conv4_block(\d+)_", text)), default=0)
    network = next((name for name, counts in BLOCKS.items() if counts[2] == blocks), None)
    if network is None:
        raise FcisError(
            f"{path}: not a ResNet-50, -101 or -152 of keras.applications "
            f"(found {blocks} blocks conv4_block*); of a run of this project name the directory"
        )
    top = "predictions" in text
    model = getattr(keras.applications, NETWORKS[network])(weights=None, include_top=top)
    try:
        model.load_weights(path)
    except (ValueError, OSError) as fault:
        text = " ".join(str(fault).split())[:200]
        raise FcisError(f"{path}: not the weights of {NETWORKS[network]} ({text})") from None
    return model
