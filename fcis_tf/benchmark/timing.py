"""Wall-clock times of functions that take turns, so that a busy machine slows all alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Seconds = np.ndarray  # (rounds,) float64
WARM_UP = 2  # unmeasured rounds: tracing, allocation, caches


class Quartiles(NamedTuple):
    """Of the seconds, or of the ratios, of all rounds."""

    median: float
    low: float
    high: float


def quartiles(values: Seconds) -> Quartiles:
    """Median, lower and upper quartile of (rounds,) values."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return Quartiles(float(median), float(low), float(high))


def take_turns(
    work: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warm_up: int = WARM_UP,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Seconds]:
    """Call every function once in every round and time it until its devices are idle.

    Args:
        work: what to time, by name.
        rounds: timed rounds.
        warm_up: rounds before them.
        progress: called with (rounds done, rounds in all).
        clock: `time.process_time` counts the work of all threads instead of the time that passes.

    Returns:
        (rounds,) seconds by name, of the timed rounds.
    """
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(warm_up + rounds):
        for name, function in work.items():
            start = clock()
            result = function()
            tf.test.experimental.sync_devices()
            taken[name].append(clock() - start)
            del result  # not while the next one is timed
        if progress:
            progress(number + 1, warm_up + rounds)
    return {name: np.array(seconds[warm_up:]) for name, seconds in taken.items()}
