"""Folding batch norm changes the graph and not the function."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf import FCIS, load_config
from fcis_tf.model.fold import fold

OVERRIDES = {
    "resnet50": ["model.backbone=resnet50", "model.norm=frozen_batch"],
    "small": ["model.backbone=small", "model.norm=sync_batch", "model.output_stride=8"],
}


def random_model(rng, name, *more):
    """A network whose batch norms all do something."""
    model = FCIS.from_config(load_config(None, ["model.classes=2", *OVERRIDES[name], *more]))
    for layer in model.backbone.layers:
        if layer.name.endswith("_bn"):
            width = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.3, 0.9, width))
            layer.beta.assign(rng.normal(0, 0.3, width))
            layer.moving_mean.assign(rng.normal(0, 0.3, width))
            layer.moving_variance.assign(rng.uniform(0.5, 2.0, width))
    return model


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_folded_network_is_the_same_function(rng, name):
    model = random_model(rng, name)
    folded = fold(model)
    assert not any(layer.name.endswith("_bn") for layer in folded.backbone.layers)
    image = tf.constant(rng.normal(0, 50, (2, 71, 96, 3)), tf.float32)
    for found, expected in zip(
        tf.nest.flatten(folded(image)), tf.nest.flatten(model(image)), strict=True
    ):
        largest = np.abs(expected).max()
        assert largest > 0
        np.testing.assert_allclose(found, expected, atol=2e-5 * largest)


def test_the_source_is_left_alone_and_nothing_is_shared(rng):
    model = random_model(rng, "small")
    before = model.get_weights()
    folded = fold(model)
    for variable in folded.variables:
        variable.assign(tf.zeros_like(variable))
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_without_batch_norm_there_is_nothing_to_fold():
    model = FCIS.from_config(
        load_config(None, ["model.classes=2", "model.backbone=small", "model.norm=group"])
    )
    assert fold(model) is model
