"""A SavedModel in a TensorFlow session with batching, as in TensorFlow Serving."""

import queue
import re
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

WARM_UP = "assets.extra/tf_serving_warmup_requests"


class Refused(Exception):
    """An error for the caller, with the name of its gRPC status code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Task(NamedTuple):
    """One request on its way through a batch."""

    inputs: dict[str, np.ndarray]
    answer: Future

    @property
    def size(self) -> int:
        return len(next(iter(self.inputs.values())))


class Model:
    """The highest version below `base`, its signatures and a batch queue for each of them.

    Args:
        name: of the model in requests.
        base: folder of version folders.
        batching: file of batching parameters; without one every request runs by itself.
        threads: batches that run at a time.
    """

    def __init__(self, name: str, base: Path, batching: Path | None, threads: int = 2) -> None:
        versions = [int(p.name) for p in base.iterdir() if p.name.isdecimal()]
        if not versions:
            sys.exit(f"{base}: no version folder")
        self.name, self.version = name, max(versions)
        folder = base / str(self.version)
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(self.session, ["serve"], str(folder))
        self.signatures = {
            key: one for key, one in meta.signature_def.items() if not key.startswith("__")
        }
        self.batchers = {}
        if batching:
            settings = _settings(batching)
            self.batchers = {
                key: Batcher(lambda inputs, key=key: self.run(key, inputs), threads, **settings)
                for key in self.signatures
            }
        self.warmed = self._warm_up(folder / WARM_UP)

    def signature(self, key: str) -> Any:
        """Raises Refused unless there is one of this name; "" is the default one."""
        try:
            return self.signatures[key or "serving_default"]
        except KeyError:
            raise Refused(
                "FAILED_PRECONDITION", f'Serving signature key "{key}" not found.'
            ) from None

    def predict(
        self, key: str, inputs: dict[str, np.ndarray], wanted: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Answer one request.

        Raises:
            Refused: its inputs are not those of the signature, or the graph fails on them.
        """
        signature = self.signature(key)
        self._check(signature, inputs)
        for alias in wanted or ():
            if alias not in signature.outputs:
                known = ",".join(sorted(signature.outputs))
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"output tensor alias not found in signature: {alias} Outputs expected to be "
                    f"in the set {{{known}}}.",
                )
        batcher = self.batchers.get(key or "serving_default")
        # An empty request has nothing that a batch could be split by.
        if batcher and all(len(value) for value in inputs.values()):
            found = batcher.run(inputs)
        else:
            found = self.run(key or "serving_default", inputs)
        return {name: found[name] for name in wanted or found}

    def run(self, key: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One run of the session."""
        signature = self.signatures[key]
        fetches = {name: info.name for name, info in signature.outputs.items()}
        feeds = {signature.inputs[name].name: value for name, value in inputs.items()}
        try:
            return self.session.run(fetches, feeds)
        except tf.errors.OpError as fault:
            code = type(fault).__name__.removesuffix("Error")
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).upper()
            raise Refused(name, str(fault.message)) from None
        except (ValueError, TypeError) as fault:
            raise Refused("INVALID_ARGUMENT", str(fault)) from None

    def _check(self, signature: Any, inputs: dict[str, np.ndarray]) -> None:
        sent, known = set(inputs), set(signature.inputs)
        if sent != known:
            raise Refused(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(sent)}!={len(known)}. Sent extra: "
                f"{{{','.join(sorted(sent - known))}}}. Missing but required: "
                f"{{{','.join(sorted(known - sent))}}}.",
            )
        for name, value in inputs.items():
            wanted = tf.as_dtype(signature.inputs[name].dtype)
            found = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
            if found != wanted:
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Expects arg[0] to be {wanted.name} but {found.name} is provided",
                )
            if value.ndim == 0:
                raise Refused(
                    "INVALID_ARGUMENT",
                    "Batching session Run() input tensors must have at least one dimension",
                )

    def _warm_up(self, path: Path) -> int:
        """Replay the requests of a warm-up file; a failing one is fatal, as in the server."""
        if not path.exists():
            return 0
        done = 0
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            request = log.predict_log.request
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            self.predict(request.model_spec.signature_name, inputs)
            done += 1
        return done


class Batcher:
    """Runs requests that arrive together as one batch, which succeeds or fails as a whole."""

    def __init__(
        self, run: Any, threads: int, *, max_batch_size: int, timeout: float, max_enqueued: int
    ) -> None:
        self._run, self.size, self.timeout = run, max_batch_size, timeout
        self.tasks: queue.Queue[Task] = queue.Queue(max_enqueued * max_batch_size)
        self._collecting = threading.Lock()
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answer to one request; raises Refused where its batch failed or the queue is full."""
        task = Task(inputs, Future())
        if task.size > self.size:
            raise Refused(
                "INVALID_ARGUMENT",
                f"Task size {task.size} is larger than maximum input batch size {self.size}",
            )
        try:
            self.tasks.put_nowait(task)
        except queue.Full:
            raise Refused("UNAVAILABLE", "The batch scheduling queue is full") from None
        return task.answer.result()

    def _collect(self) -> list[Task]:
        with self._collecting:
            batch = [self.tasks.get()]
            ends = time.monotonic() + self.timeout
            while (room := self.size - sum(task.size for task in batch)) > 0:
                try:
                    task = self.tasks.get(timeout=max(ends - time.monotonic(), 0))
                except queue.Empty:
                    break
                if task.size > room:
                    self.tasks.put(task)
                    break
                batch.append(task)
        return batch

    def _work(self) -> None:
        while True:
            batch = self._collect()
            try:
                shapes = {tuple(v.shape[1:] for v in task.inputs.values()) for task in batch}
                if len(shapes) > 1:
                    raise Refused(
                        "INVALID_ARGUMENT",
                        "Tensors of different tasks have different shapes, and padding is off",
                    )
                names = batch[0].inputs
                merged = {n: np.concatenate([task.inputs[n] for task in batch]) for n in names}
                found, start = self._run(merged), 0
                for task in batch:
                    part = slice(start, start + task.size)
                    task.answer.set_result({name: value[part] for name, value in found.items()})
                    start += task.size
            except Exception as fault:
                for task in batch:
                    if not task.answer.done():
                        task.answer.set_exception(fault)


def _settings(path: Path) -> dict[str, Any]:
    text = path.read_text()

    def value(name: str) -> int:
        found = re.search(rf"{name}\s*\{{\s*value:\s*(\d+)\s*\}}", text)
        if not found:
            sys.exit(f"{path}: no {name} {{ value: N }}")
        return int(found[1])

    return {
        "max_batch_size": value("max_batch_size"),
        "timeout": value("batch_timeout_micros") / 1e6,
        "max_enqueued": value("max_enqueued_batches"),
    }
