"""Prediction of image files, folders and videos into a folder: the command `fcis predict`."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcis_tf.instances import Instances
from fcis_tf.prediction.inputs import Picture, count_pictures, find_files, read_pictures
from fcis_tf.prediction.load import load
from fcis_tf.prediction.output import OutputFolder, OutputOptions
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.prediction.score_maps import draw_score_maps


def predict_files(
    run: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    options: OutputOptions | None = None,
    *,
    limit: int | None = None,
    upright: bool = True,
    overrides: Sequence[str] = (),
    progress: Any = None,
) -> list[Path]:
    """Predict images, folders, patterns and videos; returns the pictures written to `out`.

    Args:
        run: run directory.
        paths: as `find_files` takes them.
        out: folder; ``predictions.json`` in it gets the COCO results of all instances.
        options: what else is written; by default pictures.
        limit: only so many images and frames.
        upright: turn and mirror images as their EXIF orientation says.
        overrides: of the configuration.
        progress: called with (done, total) images.

    Raises:
        FcisError: a path that does not exist or is not an image, or no image at all.
    """
    options = options or OutputOptions()
    files = find_files([Path(path) for path in paths])
    total = count_pictures(files)
    total = total if limit is None else min(total, limit)
    predictor = load(run, overrides)
    pictures = itertools.islice(read_pictures(files, upright=upright), limit)
    with OutputFolder(Path(out), options) as folder:
        for done, (picture, found) in enumerate(predict_stream(predictor, pictures), start=1):
            folder.write(picture, found)
            if options.score_maps and picture.frame is None:
                page = draw_score_maps(predictor, picture.image, found)
                folder.write_png(f"{picture.file.stem}_score_maps.png", page)
            if progress:
                progress(done, max(total, done))
    return folder.written


def predict_stream(
    predictor: Predictor, pictures: Iterable[Picture]
) -> Iterator[tuple[Picture, Instances]]:
    """Each picture with its instances; no more of them are in memory than a batch."""
    pending: deque[Picture] = deque()

    def images() -> Iterator[np.ndarray]:
        for picture in pictures:
            pending.append(picture)
            yield picture.image

    for found in predictor.stream(images()):
        yield pending.popleft(), found
