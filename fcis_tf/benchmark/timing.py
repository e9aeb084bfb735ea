"""Times of functions that run in turn, so that other work on the machine affects all alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Seconds = np.ndarray  # (rounds,) float64
WARM_UP = 2  # unmeasured rounds: tracing, allocation, caches


class Quartiles(NamedTuple):
    """Median and quartiles of the seconds or ratios of all rounds."""

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
        clock: `time.process_time` measures processor time of all threads, not wall-clock time.

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
            del result  # freed outside the timed region
        if progress:
            progress(number + 1, warm_up + rounds)
    return {name: np.array(seconds[warm_up:]) for name, seconds in taken.items()}
