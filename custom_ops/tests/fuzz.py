"""Random calls of the custom operations against the NumPy oracle of the tests.

    python custom_ops/tests/fuzz.py --calls 100000 --seed 0

Every fourth call also checks gradients. Stops at the first difference with what reproduces it.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import tensorflow as tf

from fcis_tf.ops import library
from tests import oracle

ODD = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.5, -0.5, 2.5, 0.0], np.float32)
VALUE, GRADIENT = 5e-6, {tf.float32: 5e-6, tf.bfloat16: 2**-8}


def random_call(rng):
    """Maps, ROIs, image numbers, labels and geometry, all small and many of them odd."""
    k = int(rng.integers(1, 5))
    p = int(rng.integers(k, 9))
    stride = int(rng.choice([2, 4, 8, 16, 32]))
    images, rows, columns = rng.integers(1, [3, 8, 8])
    classes, count = int(rng.choice([1, 2, 3, 5, 16, 18])), int(rng.integers(0, 4))
    maps = rng.normal(size=(images, rows, columns, k * k * 2 * classes)).astype(np.float32)
    extent = stride * np.array([rows, columns, rows, columns])
    rois = (rng.normal(0.5, 0.6, (count, 4)) * extent).astype(np.float32)
    rois = np.where(rng.random((count, 4)) < 0.2, np.floor(rois) + np.float32(0.5), rois)
    rois = np.where(rng.random((count, 4)) < 0.05, rng.choice(ODD, (count, 4)), rois)
    index = rng.integers(0, images, count).astype(np.int32)
    labels = rng.integers(-1 if classes > 1 else 0, classes, count).astype(np.int32)
    dtype = tf.float32 if rng.random() < 0.5 else tf.bfloat16
    return tf.cast(maps, dtype), rois.astype(np.float32), index, labels, (k, p, stride)


def agree(found, expected, tolerance):
    """Whether both are equal to `tolerance` of the largest expected value, or of 0.1.

    Maps are N(0, 1): less than that is what is left when their sums cancel.
    """
    found = tf.cast(found, tf.float32).numpy().astype(np.float64)
    largest = np.abs(expected).max(initial=0.1)
    return found.shape == expected.shape and bool(
        (np.abs(found - expected) <= tolerance * largest).all()
    )


def check(rng, gradients):
    """One random call; the names of the outputs that differ."""
    maps, rois, index, labels, (k, p, stride) = random_call(rng)
    exact = tf.cast(maps, tf.float32).numpy().astype(np.float64)
    arguments = {"rois": rois, "image_index": index}
    geometry = {"group_size": k, "pooled_size": p, "stride": stride}
    operations = library.load().operations
    found = operations.fcis_ps_assemble(maps=maps, labels=labels, **arguments, **geometry)
    means = operations.fcis_ps_average(maps=maps, **arguments, **geometry)
    logits, masks, chosen = oracle.ps_assemble(exact, rois, index, labels, k, p, stride)
    pooled = oracle.ps_roi_pool(exact, rois, index, k, p, stride)
    checks = {
        "class_logits": agree(found.class_logits, logits, VALUE),
        "mask_logits": agree(found.mask_logits, masks, VALUE),
        "chosen": found.chosen.numpy().tolist() == [int(label) for label in chosen],
        "means": agree(means, pooled.mean((1, 2)), VALUE),
    }
    if gradients:
        silent = rng.random(len(rois)) < 0.3
        of_logits = np.where(silent[:, None], 0, rng.normal(size=logits.shape)).astype(np.float32)
        of_masks = rng.normal(size=masks.shape).astype(np.float32)
        of_masks[rng.random(len(rois)) < 0.3] = 0
        slopes = operations.fcis_ps_assemble_grad(
            maps=maps,
            chosen=found.chosen,
            class_gradient=of_logits,
            mask_gradient=of_masks,
            **arguments,
            **geometry,
        )
        expected = oracle.ps_assemble_gradient(
            exact, rois, index, chosen, of_logits, of_masks, k, p, stride
        )
        checks["maps_gradient"] = agree(slopes, expected, GRADIENT[maps.dtype])
    return [name for name, same in checks.items() if not same]


def main():
    """Parse, run, report; exit status 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not library.use_custom("custom"):
        sys.exit("error: no custom operations to test")
    for call in range(options.calls):
        rng = np.random.default_rng([options.seed, call])
        if wrong := check(rng, gradients=call % 4 == 0):
            sys.exit(f"call {call} of seed {options.seed} differs in {', '.join(wrong)}")
    print(f"{options.calls} random calls agree with the oracle")


if __name__ == "__main__":
    main()
