"""What a run needs to continue: weights, optimiser, average and where the loop was."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from fcis_tf.errors import FcisError

FILE = re.compile(r"ckpt-(\d+)\.index")


class State(tf.Module):
    """Where the loop was, and what it knows of its evaluations.

    The position in the data follows from `step`: the order of the images is a function of the seed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)  # steps taken
        self.evaluated = tf.Variable(0, dtype=tf.int64, trainable=False)  # step of the last one
        self.best = tf.Variable(-1.0, dtype=tf.float64, trainable=False)  # mask AP
        self.stale = tf.Variable(0, dtype=tf.int64, trainable=False)  # evaluations since the best

    def judge(self, ap: float) -> bool:
        """Take note of an evaluation; whether its weights are to be kept, as the best so far."""
        best = float(self.best)
        self.stale.assign(0 if ap > best else self.stale + 1)
        self.best.assign(max(ap, best))
        self.evaluated.assign(self.step)
        return ap >= best

    def trust(self, kept: float) -> None:
        """Believe what the kept weights say of their AP, and judge the present ones once more.

        An interruption may have come between a checkpoint and the weights that it calls the best.

        Args:
            kept: AP of the kept weights, -1 if there are none.
        """
        if kept != float(self.best):
            self.best.assign(kept)
            self.evaluated.assign(tf.minimum(self.evaluated, self.step - 1))


class Checkpoints:
    """The checkpoints of a run directory.

    Args:
        folder: where they are.
        state: of the loop.
        keep: how many stay.
        write: whether `save` does anything; on one of several hosts.
        parts: what else is saved, by name.
    """

    def __init__(self, folder: Path, state: State, *, keep: int, write: bool, **parts: Any) -> None:
        self.folder, self.state, self.write = folder, state, write
        self.newest = 0  # step of the newest checkpoint that was read or written
        self.checkpoint = tf.train.Checkpoint(state=state, **parts)
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(folder), max_to_keep=keep)

    def restore(self) -> None:
        """Continue from the newest checkpoint that is whole; without any, change nothing.

        Raises:
            FcisError: all are damaged, or they belong to another configuration.
        """
        numbers = checkpoint_numbers(self.folder)
        for number in numbers:
            prefix = self.folder / f"ckpt-{number}"
            try:
                self.checkpoint.restore(str(prefix)).assert_existing_objects_matched()
                self.newest = int(self.state.step)
                return
            except (ValueError, AssertionError) as fault:
                raise FcisError(
                    f"{prefix}: a checkpoint of another configuration ({_line(fault)}); "
                    "name another --run"
                ) from None
            except tf.errors.OpError as fault:
                print(f"{prefix}: damaged, taking the one before ({_line(fault)})", flush=True)
        if numbers:
            raise FcisError(
                f"{self.folder}: expected a checkpoint to continue from, found {len(numbers)} "
                "damaged ones; delete the folder to start anew"
            )

    def save(self) -> None:
        """Write a checkpoint of now, and remove the oldest if there are too many.

        Raises:
            FcisError: it cannot be written; those before stay.
        """
        self.newest = int(self.state.step)
        if not self.write:
            return
        try:
            self.manager.save()
        except (OSError, tf.errors.OpError) as fault:
            for path in self.folder.glob(f"ckpt-{int(self.checkpoint.save_counter)}[._]*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            raise FcisError(
                f"{self.folder}: cannot write the checkpoint of step {int(self.state.step)}: "
                f"{_line(fault)}; the same command continues from the one before"
            ) from None

    @contextlib.contextmanager
    def saved_on(self, kind: type[Exception]) -> Iterator[None]:
        """A context that such an exception leaves with a checkpoint of the steps taken."""
        try:
            yield
        except kind:
            if int(self.state.step) > self.newest:
                self.save()
            print(f"checkpoint of step {self.newest} in {self.folder}", flush=True)
            raise


def checkpoint_numbers(folder: Path) -> list[int]:
    """The checkpoints of a folder, the newest first.

    TensorFlow's own list, the file ``checkpoint``, can be lost or damaged as any other.
    """
    matches = (FILE.fullmatch(path.name) for path in folder.glob("*.index"))
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:160]
