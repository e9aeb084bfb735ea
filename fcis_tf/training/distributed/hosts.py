"""Several hosts that train together: who writes files, what they agree on, and one that is lost."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator

import tensorflow as tf

from fcis_tf.errors import FcisError
from fcis_tf.structures import Tensor

VARIABLE = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class HostLost(FcisError):
    """Another host ended, or cannot be reached."""


def addresses() -> list[str]:
    """Host and port of every worker in the environment variable ``TF_CONFIG``; empty without it.

    Raises:
        FcisError: it is not what TensorFlow expects.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return []
    try:
        content = json.loads(text)
        workers, task = content["cluster"]["worker"], content["task"]
        own = workers[int(task["index"])] if int(task["index"]) >= 0 else None
    except (ValueError, KeyError, TypeError, IndexError):
        own = None
    if own is None or set(content["cluster"]) != {"worker"} or task["type"] != "worker":
        raise FcisError(f"{VARIABLE}: expected workers alone, such as {EXAMPLE}, found {text!r}")
    return workers


class Hosts:
    """The processes of a training, all of which run the same loop; the first one is the chief.

    Args:
        strategy: of the training.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        resolver = strategy.cluster_resolver
        self.addresses = resolver.cluster_spec().as_dict().get("worker", []) if resolver else []
        self.count = max(len(self.addresses), 1)
        self.chief = not resolver or not resolver.task_id
        local = strategy.num_replicas_in_sync // self.count

        @tf.function
        def total(value: Tensor) -> Tensor:
            def replica() -> Tensor:
                number = tf.distribute.get_replica_context().replica_id_in_sync_group
                return tf.where(number % local == 0, value, 0.0)

            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica), axis=None)

        self.total = total

    def from_chief(self, value: Callable[[], float]) -> float:
        """A number that the chief alone works out; the others wait for it."""
        if self.count == 1:
            return value()
        return self._sum(value() if self.chief else 0.0)

    def any(self, value: bool) -> bool:
        """Whether it is so on one of the hosts."""
        return value if self.count == 1 else self._sum(float(value)) > 0

    def agree(self, step: int, run: object) -> None:
        """See that all start at the step at which the chief does.

        Raises:
            FcisError: they do not.
        """
        other = self.from_chief(lambda: float(step))
        if self.any(step != other):
            raise FcisError(
                f"{run}: expected the run directory of the first host, which is at step "
                f"{other:.0f}, found step {step}; put it where all hosts see the same files"
            )

    @contextlib.contextmanager
    def together(self, run: object) -> Iterator[None]:
        """A context in which the others may be lost.

        Raises:
            HostLost: one was.
        """
        try:
            yield
        except LOST as fault:
            if self.count == 1:
                raise
            named = re.search(r"/job:worker/replica:\d+/task:(\d+)", fault.message)
            who = self.addresses[int(named[1])] if named else "another host"
            raise HostLost(
                f"lost {who}, one of {self.count} hosts; see what it said, and start the same "
                f"command again on all of them: it continues from the newest checkpoint in {run}"
            ) from fault

    def _sum(self, value: float) -> float:
        return float(self.total(tf.constant(value, tf.float64)))
