"""Steps of make.sh between the commands; runs with the code of 980d974 only."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf
from fcis_tf.model.import_weights import read_weights
from fcis_tf.model.weights import save_weights

from fcis_tf.config import load_config
from fcis_tf.data.pipeline import augmentation, training_dataset
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS

RESNET50 = [
    "model.backbone=resnet50",
    "model.classes=2",
    "model.group_size=3",
    "model.pooled_size=9",
    "model.rpn_channels=8",
    "model.head_channels=8",
]


def short(values):
    """Rounded to the digits of bfloat16, which compress better."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def round_backbone(source, out):
    """A run whose backbone has kernels of three powers of two, most of them zero."""
    out.mkdir()
    for name in ("config.yaml", "labels.json", "best.weights.h5"):
        shutil.copy(source / name, out / name)

    def visit(name, item):
        if not isinstance(item, h5py.Dataset) or not item.shape:
            return
        values = item[()]
        if values.ndim == 4 and "backbone" in name:
            size = np.abs(values)
            kept = size >= np.quantile(size, 0.55 if values.size > 5000 else 0.0)
            top = np.round(np.log2(np.quantile(size, 0.98)))
            power = np.clip(np.round(np.log2(np.maximum(size, 1e-30))), top - 2, top)
            item[...] = np.where(kept, np.sign(values) * 2.0**power, 0)
        else:
            item[...] = short(values)

    with h5py.File(out / "best.weights.h5", "a") as file:
        file.visititems(visit)


def normalise(source, out):
    """A run of the same kernels with fixed batch statistics, measured on the training images."""
    changes = ["model.norm=sync_batch", "train.freeze=0", "train.init=null"]
    config = load_config(source / "config.yaml", changes)
    labels = Labels.load(source / "labels.json")
    weights, model = read_weights(source), FCIS.from_config(config)
    for variable in model.weights:
        key = "/".join(variable.path.split("/")[-2:])
        if key in weights:
            variable.assign(weights[key])
    for layer in model.backbone.layers:
        if layer.name.endswith("_bn"):
            layer.momentum = 0.9
    options = {"batch_size": 8, "step_size": 8, "seed": 1, "start": 0, "shard": (0, 1)}
    data = training_dataset(
        config.data.train, labels=labels, **options, **augmentation(config.data)
    )
    run = tf.function(lambda image: model.backbone(image, training=True))
    for batch in data.take(60):
        run(batch["image"])
    settings = config.model.model_copy(update={"norm": "frozen_batch"})
    frozen = config.model_copy(update={"model": settings})
    result = FCIS.from_config(frozen)
    for variable, measured in zip(result.weights, model.weights, strict=True):
        assert variable.path.split("/")[-2:] == measured.path.split("/")[-2:]
        variable.assign(short(measured.numpy()))
    out.mkdir()
    save_weights(result, out / "best.weights.h5")
    labels.save(out / "labels.json")
    frozen.save(out / "config.yaml")


def write_names(out):
    """Where the files of a ResNet-50 keep each variable; each has its own number as its value."""
    model = FCIS.from_config(load_config(None, RESNET50))
    for number, variable in enumerate(model.weights):
        variable.assign(tf.fill(variable.shape, float(number)))
    rows = [
        {"name": "/".join(v.path.split("/")[-2:]), "shape": list(v.shape)} for v in model.weights
    ]

    def note(key, item):
        if isinstance(item, h5py.Dataset):
            rows[int(item[()].flat[0])]["file"] = key

    with tempfile.TemporaryDirectory() as folder:
        save_weights(model, f"{folder}/a.weights.h5")
        with h5py.File(f"{folder}/a.weights.h5") as file:
            file.visititems(note)
        checkpoint = tf.train.Checkpoint(model=model).write(f"{folder}/checkpoint")
        reader = tf.train.load_checkpoint(checkpoint)
        for key in reader.get_variable_to_shape_map():
            if key.startswith("model/"):
                rows[int(reader.get_tensor(key).flat[0])]["checkpoint"] = key
    trained = ["/".join(v.path.split("/")[-2:]) for v in model.trainable_variables]
    out.write_text(json.dumps({"overrides": RESNET50, "variables": rows, "trained": trained}))


steps = {"round": round_backbone, "normalise": normalise, "names": write_names}
steps[sys.argv[1]](*map(Path, sys.argv[2:]))
