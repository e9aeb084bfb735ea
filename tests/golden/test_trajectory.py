"""Five training steps, on one device and on two."""

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.model.fcis import FCIS
from fcis_tf.training.distributed.strategy import mirrored_strategy
from fcis_tf.training.optimizer import build_optimizer
from fcis_tf.training.step import TrainStep
from tests.golden import layout
from tests.golden.arrays import CLASSES, K, assign, golden, tiny, unpack


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_trajectory(narrow, close, devices):
    """Five optimiser steps of two images: every loss of every step, and all weights at the end.

    The reference sums the gradients of its images, as the released code does over its devices.
    """
    strategy = tf.distribute.get_strategy()
    if devices == 2:
        strategy = mirrored_strategy("/cpu:0", "/cpu:1")
    arrays = golden("trajectory")
    config = tiny(
        "train.learning_rate=2e-3",
        "train.warmup_steps=0",
        "train.drops=[]",
        "train.rpn_batch=4096",
        "train.roi_batch=16",
    )
    with strategy.scope():
        model = FCIS.from_config(config)
        optimizer = build_optimizer(config.train)
    prefix = "initial_"
    initial = {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
    assign(model.weights, layout.weights(initial, K, CLASSES, 9))
    truth = [np.stack([arrays[f"{name}{n}"] for n in range(2)]) for name in ("boxes", "classes")]
    masks = np.stack([unpack(arrays[f"masks{n}"], (3, 96, 128)) for n in range(2)])
    batch = {
        "image": arrays["images"],
        "image_size": np.array([[96.0, 128.0]] * 2, np.float32),
        "boxes": layout.boxes(truth[0]),
        "labels": truth[1].astype(np.int32),
        "masks": masks.astype(np.float32),
        "seed": np.zeros([2, 2], np.int32),
    }
    step = TrainStep(model, optimizer, strategy, config.train)
    data = tf.data.Dataset.from_tensor_slices(batch).batch(2).repeat()
    batches = iter(strategy.experimental_distribute_dataset(data))
    names = ("rpn_class", "rpn_box", "roi_class", "roi_mask", "roi_box")
    assert len(arrays["losses"]) == 5
    for expected in arrays["losses"].mean(1):
        (losses,) = step(batches)
        close("trajectory, losses", [losses[name] for name in names], expected)
    prefix = "final_"
    final = {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
    final = layout.weights(final, K, CLASSES, 9)
    start = layout.weights(initial, K, CLASSES, 9)
    for variable in model.weights:
        name = "/".join(variable.path.split("/")[-2:])
        if name in final:
            close("trajectory, weights", variable.numpy(), final[name])
            moved = final[name] - start[name]
            error = np.abs(variable.numpy() - final[name]).max()
            assert error < 1e-2 * np.abs(moved).max(), f"{name} moved by {np.abs(moved).max()}"
        else:
            np.testing.assert_array_equal(variable.numpy(), start[name])
