"""What a run needs to continue: weights, optimiser, average and where the loop was."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from fcis_tf.errors import FcisError

INDEX, PART = re.compile(r"ckpt-(\d+)\.index"), re.compile(r"ckpt-(\d+)[._]")


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

    def is_best(self, ap: float) -> bool:
        """Take note of an evaluation; whether its weights are to be kept, as the best so far."""
        best = float(self.best)
        self.stale.assign(0 if ap > best else self.stale + 1)
        self.best.assign(max(ap, best))
        self.evaluated.assign(self.step)
        return ap >= best

    def set_best(self, kept: float) -> None:
        """Take the AP of the kept weights as the best, and evaluate the present ones once more.

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
        self.folder, self.state, self.keep, self.write = folder, state, keep, write
        self.newest = 0  # step of the newest checkpoint that was read or written
        self.checkpoint = tf.train.Checkpoint(state=state, **parts)

    def restore(self) -> None:
        """Continue from the newest checkpoint that is whole; without any, change nothing.

        Raises:
            FcisError: all are damaged, or they belong to another configuration.
        """
        numbers = checkpoint_numbers(self.folder)
        for number in numbers:
            prefix = str(self.folder / f"ckpt-{number}")
            damage = _damage(prefix)
            if damage:
                print(f"{prefix}: damaged, taking the one before ({damage})", flush=True)
                continue
            try:
                self.checkpoint.restore(prefix).assert_existing_objects_matched()
            except (ValueError, AssertionError) as fault:
                raise FcisError(
                    f"{prefix}: a checkpoint of another configuration ({_line(fault)}); "
                    "name another --run"
                ) from None
            self.newest = int(self.state.step)
            return
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
            self.folder.mkdir(exist_ok=True)
            self.checkpoint.save(str(self.folder / "ckpt"))
        except (OSError, tf.errors.OpError) as fault:
            self._remove_all_but(checkpoint_numbers(self.folder))
            raise FcisError(
                f"{self.folder}: cannot write the checkpoint of step {int(self.state.step)}: "
                f"{_line(fault)}; the same command continues from the one before"
            ) from None
        # Those with a higher number were damaged.
        number = int(self.checkpoint.save_counter)
        numbers = [n for n in checkpoint_numbers(self.folder) if n <= number]
        self._remove_all_but(numbers[: self.keep])

    def _remove_all_but(self, numbers: list[int]) -> None:
        """Remove other checkpoints, and what a kill or a full disk has left of one."""
        for path in self.folder.glob("ckpt-*"):
            match = PART.match(path.name)
            if match and int(match[1]) not in numbers:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

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
    """The checkpoints of a folder, the newest first."""
    matches = (INDEX.fullmatch(path.name) for path in folder.glob("*.index"))
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def _damage(prefix: str) -> str:
    """Why a checkpoint cannot be read, if it cannot; all of its checksums are compared."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, RuntimeError) as fault:
        return _line(fault)
    return ""


def _line(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    # TensorFlow puts the names of a graph before its reason.
    return re.sub(r"^(\{\{[^}]*\}\} ?)+", "", text)[:200]
