"""Common parts of the timed processes: one core, the picture, and the protocol with compare.py.

A worker warms up, prints ``{"ready": true, ...}`` and then answers each line ``go`` on its standard
input with ``{"seconds": s, "proposals": n, "detections": d}``.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from setting import HEIGHT, WIDTH

WARM_UP = 2  # runs before the first timed one


def arguments(models: list[str]) -> argparse.Namespace:
    """The command line of a worker; called before the frameworks are loaded, as it pins the core.

    Args:
        models: the names this worker accepts.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=models)
    parser.add_argument("--core", type=int, help="run on this core only")
    given = parser.parse_args()
    if given.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {given.core})
    return given


def picture() -> np.ndarray:
    """The uint8 (H, W, 3) image that every model is given."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def check_masks(masks: Any, boxes: np.ndarray) -> None:
    """Fail unless there is a mask of the whole image for each detection, and boxes are finite.

    Args:
        masks: array or tensor (n, H, W) or (n, 1, H, W).
        boxes: (n, 4) coordinates.
    """
    shape = tuple(masks.shape)
    if shape[0] != len(boxes) or shape[-2:] != (HEIGHT, WIDTH):
        sys.exit(f"error: masks of shape {shape} for {len(boxes)} boxes; check the worker")
    if not np.isfinite(boxes).all():
        sys.exit("error: boxes that are not finite; lower RESIDUAL_GAMMA in setting.py")


def serve(run: Callable[[], tuple[int, int]], versions: dict[str, str]) -> None:
    """Warm up, then time `run` for every line ``go`` until standard input ends.

    Args:
        run: one whole inference; returns the number of proposals and of detections.
        versions: of the libraries, by name.
    """
    for _ in range(WARM_UP):
        run()
    say({"ready": True, "versions": versions})
    for line in sys.stdin:
        if line.strip() == "go":
            start = time.perf_counter()
            proposals, detections = run()
            seconds = time.perf_counter() - start
            say({"seconds": seconds, "proposals": proposals, "detections": detections})


def say(answer: dict[str, Any]) -> None:
    """Write one line of JSON to standard output."""
    print(json.dumps(answer), flush=True)
