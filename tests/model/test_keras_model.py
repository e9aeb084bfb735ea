"""The network is an ordinary Keras model: its configuration, and `.keras` files."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import Config, load_config
from fcis_tf.errors import FcisError
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.fold import fold
from tests import fixtures

CASES = {
    "small": ([], False),
    "small in bfloat16": (["train.precision=bfloat16"], False),
    "resnet50": (["model.backbone=resnet50", "model.norm=frozen_batch"], False),
    "folded resnet50 in bfloat16": (
        ["model.backbone=resnet50", "model.norm=frozen_batch", "train.precision=bfloat16"],
        True,
    ),
}
LOAD = """
import sys
import keras, numpy as np
from fcis_tf import FCIS
image, *files = sys.argv[1:]
for file in files:
    model = keras.saving.load_model(file)
    assert type(model) is FCIS
    rpn, scores, boxes = model(np.load(image))
    maps = [np.asarray(part, np.float32) for part in (*rpn, scores, boxes)]
    np.savez(file + ".npz", *maps)
"""


def build(*changes):
    return FCIS(load_config(None, [*fixtures.TINY, "model.classes=3", *changes]))


def maps_of(model, image):
    return [np.asarray(tf.cast(part, tf.float32)) for part in tf.nest.flatten(model(image))]


def test_a_fresh_process_loads_the_same_maps(rng, tmp_path):
    """Of weights that are not those of a new network."""
    image = rng.normal(scale=60, size=(1, 71, 80, 3)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    files, expected = [], []
    for number, (changes, folded) in enumerate(CASES.values()):
        model = build(*changes)
        for weight in model.weights:
            weight.assign(weight * rng.uniform(0.9, 1.1, weight.shape))
        model = fold(model) if folded else model
        files.append(str(tmp_path / f"{number}.keras"))
        model.save(files[-1])
        expected.append(maps_of(model, image))
    command = [sys.executable, "-c", LOAD, str(tmp_path / "image.npy"), *files]
    subprocess.run(command, check=True, timeout=600)
    for name, file, maps in zip(CASES, files, expected, strict=True):
        found = np.load(file + ".npz")
        assert len(found.files) == len(maps) == 4
        for key, one in zip(found.files, maps, strict=True):
            np.testing.assert_array_equal(found[key], one, err_msg=name)


def test_the_configuration_is_json_and_makes_the_same_network():
    model = build("train.freeze=2", "train.precision=bfloat16", "predict.scales=[0.5,1.0]")
    content = json.loads(json.dumps(model.get_config()))
    other = FCIS.from_config(content)
    assert other.config == model.config and isinstance(other.config, Config)
    assert (other.precision, other.name) == ("bfloat16", model.name)
    assert other.get_config() == model.get_config()
    for part in ("weights", "trainable_weights"):
        one, two = ([w.path.split("/")[-2:] for w in getattr(m, part)] for m in (model, other))
        assert one == two
    assert len(model.trainable_weights) < len(model.weights)


def test_a_configuration_or_its_dictionary_makes_a_network():
    config = load_config(None, [*fixtures.TINY, "model.classes=3"])
    for given in (config, config.model_dump()):
        assert FCIS(given).config == FCIS.from_config(given).config == config
    assert FCIS.from_config(config, precision="bfloat16").precision == "bfloat16"


def test_a_clone_has_weights_of_its_own(rng):
    model = build()
    other = keras.models.clone_model(model)
    assert type(other) is FCIS and other.config == model.config
    image = rng.normal(scale=60, size=(1, 64, 64, 3)).astype(np.float32)
    other.set_weights(model.get_weights())
    expected = maps_of(model, image)
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    for a, b in zip(maps_of(other, image), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_network_of_unknown_classes_is_refused():
    with pytest.raises(FcisError, match=r"model\.classes: expected a number"):
        build("model.classes=null")
