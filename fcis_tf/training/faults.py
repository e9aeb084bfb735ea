"""What stops a training: a bad record, numbers that are not finite, a full disk."""

import contextlib
import errno
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from fcis_tf.errors import FcisError
from fcis_tf.training.loss_scale import LEAST

SHOWN = 16  # image ids


@contextlib.contextmanager
def name_damage(step: int) -> Iterator[None]:
    """Report a record that cannot be used in one line.

    Raises:
        FcisError: it was met.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as fault:
        # TensorFlow wraps its own reason in pages of graph names.
        text = " ".join(fault.message.split())
        text = text[max(text.find("assertion failed"), 0) :]
        raise FcisError(
            f"step {step}: a training record is damaged or not as `fcis convert` writes it: "
            f"{text[:300]}"
        ) from fault


@contextlib.contextmanager
def name_full_disk(run: Path) -> Iterator[None]:
    """Report a full disk in one line, whatever was being written.

    Raises:
        FcisError: there was none left.
    """
    try:
        yield
    except (OSError, tf.errors.ResourceExhaustedError) as fault:
        full = (errno.ENOSPC, errno.EDQUOT)
        if getattr(fault, "errno", None) not in full and "No space left" not in str(fault):
            raise
        raise FcisError(
            f"{run}: no space left on the disk; make some, and the same command continues from the "
            "newest checkpoint"
        ) from fault


def check_finite(row: dict[str, float], step: int, data: Callable[[], tf.data.Dataset]) -> None:
    """See that the losses and the norm of the gradient are numbers.

    Args:
        row: of a step. With a "loss_scale" above the least one they need not be: that update is
            left out, and the scale halved.
        step: from 1.
        data: gives the images of that step once more, as one batch, to name them.

    Raises:
        FcisError: one is not.
    """
    if row.get("loss_scale", LEAST) > LEAST:
        return
    for name, value in row.items():
        if math.isfinite(value):
            continue
        ids = [i.decode() for batch in data().take(1) for i in batch["image_id"].numpy()]
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        what = "the norm of the gradient" if name == "gradient_norm" else f"loss {name}"
        raise FcisError(
            f"step {step}: {what} is {value} on images {', '.join(ids[:SHOWN])}{more}; "
            "checkpoints before this step are good; see these images with `fcis inspect`, "
            "lower train.learning_rate, lengthen train.warmup_steps or set train.clip_norm"
        )
