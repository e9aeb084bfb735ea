"""Videos as streams of frames, in and out; needs the extra ``video``."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from fcis_tf.errors import FcisError
from fcis_tf.files import partial_name

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in VIDEOS


def frame_count(path: Path) -> int:
    """How many frames a video has by its header, 0 if that does not say."""
    with _opened(path) as container:
        return int(container.streams.video[0].frames)


def frame_rate(path: Path) -> Fraction:
    """Frames per second, 25 if the header does not say."""
    with _opened(path) as container:
        return container.streams.video[0].average_rate or Fraction(25)


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video, (H, W, 3) uint8 RGB in stored orientation, one at a time.

    Raises:
        FcisError: not a video, or a damaged one.
    """
    av = _av(path)
    with _opened(path) as container:
        try:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
        except av.FFmpegError as fault:
            raise FcisError(f"{path}: a damaged video ({fault.strerror})") from None


class VideoWriter:
    """Writes (H, W, 3) uint8 RGB frames of one size as H.264; the file appears when it is whole.

    An odd height or width is cut by one pixel, which the format asks for.

    Args:
        path: an .mp4 file.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self.rate = path, rate
        self.av = _av(path)
        self.partial = partial_name(path)
        self.stream: Any = None

    def __enter__(self) -> "VideoWriter":
        self.container = self.av.open(str(self.partial), "w", format="mp4")
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame."""
        height, width = (side - side % 2 for side in frame.shape[:2])
        if self.stream is None:
            self.stream = self.container.add_stream("h264", rate=self.rate)
            self.stream.height, self.stream.width = height, width
            self.stream.pix_fmt = "yuv420p"
        pixels = np.ascontiguousarray(frame[:height, :width])
        picture = self.av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self.container.mux(self.stream.encode(picture))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self.stream is not None:
                self.container.mux(self.stream.encode())
            self.container.close()
            if kind is None and self.stream is not None:
                self.partial.replace(self.path)
        finally:
            self.partial.unlink(missing_ok=True)


def _av(path: Path) -> ModuleType:
    try:
        import av
    except ImportError:
        raise FcisError(f"{path}: videos need PyAV; pip install 'fcis_tf[video]'") from None
    return av


def _opened(path: Path) -> Any:
    av = _av(path)
    try:
        container = av.open(str(path))
    except FileNotFoundError:
        raise FcisError(f"{path}: no such file") from None
    except av.FFmpegError as fault:
        raise FcisError(f"{path}: not a readable video ({fault.strerror})") from None
    if not container.streams.video:
        container.close()
        raise FcisError(f"{path}: has no pictures, only {len(container.streams)} other streams")
    return container
