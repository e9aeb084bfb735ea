"""Predictions of image files as pictures: instances, and the score maps behind them."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fcis_tf import drawing
from fcis_tf.files import write_json
from fcis_tf.instances import Segment, label_map
from fcis_tf.instances import results as segment_results
from fcis_tf.overlay import draw_segments
from fcis_tf.prediction.inputs import Picture, count_pictures, find_files, read_pictures
from fcis_tf.prediction.load import load_predictor
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.prediction.score_maps import draw_score_maps
from fcis_tf.prediction.video import VideoWriter, frame_rate


def draw_predictions(
    run: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    score: float = 0.5,
    pictures: bool = True,
    label_maps: bool = False,
    score_maps: bool = False,
    limit: int | None = None,
    upright: bool = True,
    overrides: Sequence[str] = (),
    progress: Any = None,
) -> list[Path]:
    """Predict images, folders, patterns and videos; returns the pictures written to `out`.

    ``predictions.json`` gets the COCO results of all detections, with the file name as image id;
    all else shows those with at least `score`.

    Args:
        run: run directory.
        paths: as `find_files` takes them.
        out: folder.
        score: see above.
        pictures: draw instances over each image; a video becomes a video.
        label_maps: write a 16-bit PNG for each image, whose pixels hold the number of their
            instance, 1 being the best, or 0.
        score_maps: draw the maps behind the best instance of each image; not of videos.
        limit: only so many images and frames.
        upright: turn and mirror images as their EXIF orientation says, for people see them so.
        overrides: of the configuration.
        progress: called with (done, total) images.

    Raises:
        FcisError: a path that does not exist or is not an image, or no image at all.
    """
    files = find_files(paths)
    total = count_pictures(files)
    total = total if limit is None else min(total, limit)
    predictor, labels = load_predictor(run, overrides)
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    results: list[dict] = []
    with ExitStack() as stack:
        video = None  # the file whose frames are being written
        stream = predict_stream(
            predictor, itertools.islice(read_pictures(files, upright=upright), limit)
        )
        for done, (picture, found) in enumerate(stream, start=1):
            file, height, width = picture.file, *picture.image.shape[:2]
            results += segment_results(picture.name, found, height, width, labels)
            shown = [one for one in found if one.score >= score]
            if pictures:
                drawn = draw_segments(picture.image, shown, labels)
                if picture.frame is None:
                    written.append(out / f"{file.stem}.png")
                    drawing.save_png(written[-1], drawn)
                else:
                    if file != video:
                        video = file
                        stack.close()
                        target = out / f"{file.stem}.mp4"
                        writer = stack.enter_context(VideoWriter(target, frame_rate(file)))
                        written.append(target)
                    writer.write(drawn)
            if label_maps:
                number = "" if picture.frame is None else f"_{picture.frame:06d}"
                written.append(out / f"{file.stem}{number}_labels.png")
                drawing.save_png(written[-1], label_map(shown, height, width))
            if score_maps and picture.frame is None:
                written.append(out / f"{file.stem}_score_maps.png")
                page = draw_score_maps(predictor, picture.image, found, labels)
                drawing.save_png(written[-1], page)
            if progress:
                progress(done, max(total, done))
    write_json(out / "predictions.json", results, indent=None)
    return written


def predict_stream(
    predictor: Predictor, pictures: Iterable[Picture]
) -> Iterator[tuple[Picture, list[Segment]]]:
    """Each picture with its segments; no more of them are in memory than a batch."""
    pending: deque[Picture] = deque()

    def images() -> Iterator[np.ndarray]:
        for picture in pictures:
            pending.append(picture)
            yield picture.image

    for found in predictor.stream(images()):
        yield pending.popleft(), found
