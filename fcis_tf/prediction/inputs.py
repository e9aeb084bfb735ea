"""Where the pictures to predict come from: files, folders, patterns and videos, as one stream."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcis_tf.data.images import read_image
from fcis_tf.errors import FcisError
from fcis_tf.prediction.video import frame_count, is_video, read_frames

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class Picture(NamedTuple):
    """An image, or a frame of a video."""

    file: Path
    frame: int | None  # from 0
    image: np.ndarray  # (H, W, 3) uint8 RGB

    @property
    def name(self) -> str:
        """The file's name, with ``#`` and the number of a frame behind it."""
        return self.file.name if self.frame is None else f"{self.file.name}#{self.frame:06d}"


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Image and video files, of folders and of patterns with ``*``, ``?`` or ``[`` in name order.

    Raises:
        FcisError: a path or pattern that names nothing, no file at all, or two files of one name,
            whose results would have the same name.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES or is_video(p))
        elif path.exists():
            files.append(path)
        elif glob.has_magic(str(path)):
            matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
            if not matches:
                raise FcisError(f"{path}: no file matches this pattern")
            files += [match for match in matches if not match.is_dir()]
        else:
            raise FcisError(f"{path}: no such file or folder")
    if not files:
        raise FcisError(f"{paths[0] if paths else 'paths'}: no image files found")
    named: dict[str, Path] = {}
    for file in files:
        other = named.setdefault(file.stem, file)
        if other is not file:
            raise FcisError(
                f"{file}: results are named by file names, and {other} has the same; "
                "predict them into different folders"
            )
    return files


def read_pictures(files: Sequence[Path], *, upright: bool = True) -> Iterator[Picture]:
    """The images, and the frames of the videos, one at a time; `upright` as in `read_image`."""
    for file in files:
        if is_video(file):
            for number, image in enumerate(read_frames(file)):
                yield Picture(file, number, image)
        else:
            yield Picture(file, None, read_image(file, upright=upright))


def count_pictures(files: Sequence[Path]) -> int:
    """The number of pictures of `read_pictures`, as far as the headers of videos state it."""
    return sum(frame_count(file) if is_video(file) else 1 for file in files)
