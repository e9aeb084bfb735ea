"""A client of TensorFlow Serving, over REST or gRPC, that needs no TensorFlow.

    with Client("http://localhost:8501") as client:
        found = client.detect(Path("image.jpg").read_bytes())
        found.boxes, found.names, found.scores, found.masks

The model is one of `fcis export`; its signature "compact" sends masks as PNG.
"""

import io
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numpy as np
from PIL import Image

from fcis_tf.cutouts import CutOut
from fcis_tf.errors import FcisError
from fcis_tf.instances import Instances
from fcis_tf.labels import Labels
from fcis_tf.serving.client.transport import Outputs, Unavailable, connect

Key = TypeVar("Key")
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts; each pause doubles the last


class ImageError(FcisError):
    """The server could not read this image; the others of its request have results."""


class Client:
    """Sends images to one model of one server; threads may share it.

    Args:
        url: ``http[s]://[USER:PASSWORD@]HOST:PORT`` for REST (TensorFlow Serving: 8501) or
            ``grpc[s]://HOST:PORT`` for gRPC (8500), which needs grpcio.
        model: name of the model on the server.
        labels: the classes; by default they are named "category 7" and so on, by the category ids
            that the server sends.
        deadline: seconds for a request, including retries.
        batch_size: images in a request of `stream`.
        in_flight: concurrent requests of `stream`.

    Raises:
        FcisError: a URL of another form, or grpcio is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "fcis",
        labels: Labels | None = None,
        deadline: float = 60.0,
        batch_size: int = 4,
        in_flight: int = 4,
    ) -> None:
        self._transport = connect(url, model, connections=in_flight)
        self.url, self.labels, self.deadline = self._transport.url, labels, deadline
        self.batch_size, self.in_flight = batch_size, in_flight

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def detect(self, file: bytes) -> Instances:
        """The instances in one JPEG or PNG file.

        Raises:
            ImageError: the server cannot read it.
            FcisError: the server refuses the request, or does not respond before the deadline.
        """
        (answer,) = self.detect_batch([file])
        if isinstance(answer, ImageError):
            raise answer
        return answer

    def detect_batch(self, files: list[bytes]) -> list[Instances | ImageError]:
        """As `detect` for several files in one request; a corrupt one gets an error in its place.

        Raises:
            FcisError: no file, or as `detect`.
        """
        if not files:
            raise FcisError("files: expected at least one image, found none")
        outputs = self._send(files)
        try:
            return [self._instances(outputs, place) for place in range(len(files))]
        except (KeyError, IndexError, OSError, ValueError) as fault:
            raise FcisError(
                f"{self.url}: not the response of a model of `fcis export` "
                f"({type(fault).__name__}: {fault})"
            ) from None

    def stream(
        self, files: Iterable[tuple[Key, bytes]]
    ) -> Iterator[tuple[Key, Instances | ImageError]]:
        """Instances of many (key, file) pairs, in order, with several concurrent requests.

        No more than ``batch_size * in_flight`` files are in memory.

        Raises:
            FcisError: as `detect_batch`.
        """
        pending: deque[tuple[list[Key], Future]] = deque()

        def finished() -> Iterator[tuple[Key, Instances | ImageError]]:
            keys, answers = pending.popleft()
            yield from zip(keys, answers.result(), strict=True)

        with ThreadPoolExecutor(self.in_flight) as pool:
            keys: list[Key] = []
            batch: list[bytes] = []
            for key, file in files:
                keys.append(key)
                batch.append(file)
                if len(batch) == self.batch_size:
                    pending.append((keys, pool.submit(self.detect_batch, batch)))
                    keys, batch = [], []
                if len(pending) == self.in_flight:
                    yield from finished()
            if batch:
                pending.append((keys, pool.submit(self.detect_batch, batch)))
            while pending:
                yield from finished()

    def _send(self, files: list[bytes]) -> Outputs:
        """One request, retried while the server is busy or unavailable, until the deadline."""
        ends, pause = time.monotonic() + self.deadline, FIRST_PAUSE
        while True:
            left = ends - time.monotonic()
            try:
                return self._transport.predict(files, max(left, 0.001))
            except Unavailable as fault:
                # Random pauses, so that clients that failed together do not retry together.
                rest = pause * random.uniform(0.5, 1.0)
                if time.monotonic() + rest >= ends:
                    raise FcisError(
                        f"{self.url}: no response within {self.deadline:g} s ({fault}); "
                        "check that the server runs, and the port of this protocol"
                    ) from None
                time.sleep(rest)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _instances(self, outputs: Outputs, place: int) -> Instances | ImageError:
        fault = outputs["image_error"][place]
        if fault:
            return ImageError(f"image {place}: {_text(fault)}")
        count = int(outputs["num_detections"][place])
        height, width = (int(side) for side in outputs["image_size"][place])
        boxes = np.asarray(outputs["detection_boxes"][place][:count], np.float32).reshape(-1, 4)
        windows = np.asarray(outputs["detection_windows"][place][:count], np.int32).reshape(-1, 4)
        files = outputs["detection_masks_png_bytes"][place][:count]
        ids = np.asarray(outputs["detection_classes"][place][:count], np.int32).tolist()
        classes = _classes(ids, self.labels)
        return Instances(
            height,
            width,
            boxes * np.array([height, width, height, width], np.float32),
            np.array([classes.ids.index(i) + 1 for i in ids], np.int32),
            np.asarray(outputs["detection_scores"][place][:count], np.float32),
            tuple(_cutout(file, window) for file, window in zip(files, windows, strict=True)),
            classes,
        )


def _classes(ids: Sequence[int], labels: Labels | None) -> Labels:
    """`labels`, with an entry "category 7" for each of the ids that it lacks."""
    known = dict(zip(labels.ids, labels.names, strict=True)) if labels else {}
    if labels and set(ids) <= set(known):
        return labels
    used = tuple(sorted(set(ids) | set(known)))
    return Labels(used, tuple(known.get(i, f"category {i}") for i in used))


def _cutout(file: bytes, window: np.ndarray) -> CutOut:
    """The mask of a PNG file in a window (4,) int32 of the image; empty for an empty file."""
    top, left, bottom, right = window.tolist()
    shape = (bottom - top, right - left)
    if not file:
        return CutOut(top, left, np.zeros(shape, bool))
    with Image.open(io.BytesIO(file)) as image:
        mask = np.asarray(image) > 0
    if mask.shape != shape:
        raise ValueError(f"a mask of {mask.shape} pixels in a window of {shape}")
    return CutOut(top, left, mask)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
