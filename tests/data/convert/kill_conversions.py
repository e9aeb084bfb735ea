"""Kills conversions at random moments and completes them; test_convert.py runs this as a program.

Prints a line for every trial. A child is a copy of this process, which has loaded TensorFlow but
never used it, so that a trial takes a second and not the time of loading.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from fcis_tf.data.convert.converter import convert

SHARDS = 10


def child(shapes: Path, out: Path) -> int:
    """Convert in a copy of this process; its id."""
    process = os.fork()
    if process:
        return process
    try:
        convert(
            "coco", shapes / "train", out,
            annotations=shapes / "train.json", shards=SHARDS, processes=1,
        )  # fmt: skip
    except BaseException as fault:
        print(repr(fault), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def main() -> None:
    """Arguments: folder of images, folder to work in, number of trials."""
    shapes, work, trials = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    start = time.monotonic()
    assert os.waitpid(child(shapes, work / "whole"), 0)[1] == 0
    longest = time.monotonic() - start
    expected = contents(work / "whole")
    random = np.random.default_rng(0)
    equal = 0
    for number in range(trials):
        out = work / str(number)
        process = child(shapes, out)
        time.sleep(random.uniform(0.0, longest))
        os.kill(process, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
        left = len(list(out.glob("*.tfrecord"))) if out.exists() else 0
        partial = len(list(out.glob("*.partial"))) if out.exists() else 0
        completed = os.waitpid(child(shapes, out), 0)[1] == 0
        same = completed and contents(out) == expected
        equal += same
        print(f"trial {number}: killed {killed}, {left} shards, {partial} partial, same {same}")
    print(f"{equal} of {trials} identical")
    sys.exit(equal != trials)


if __name__ == "__main__":
    main()
