"""Predictions of image files by a server, as pictures and COCO results."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fcis_tf import drawing
from fcis_tf.data.images import read_image, to_rgb
from fcis_tf.errors import FcisError
from fcis_tf.files import write_json
from fcis_tf.instances import Segment, label_map, results
from fcis_tf.labels import Labels
from fcis_tf.overlay import draw_segments
from fcis_tf.prediction.inputs import find_files
from fcis_tf.prediction.video import is_video
from fcis_tf.serving.client.client import Answer, Client

AS_THEY_ARE = (b"\xff\xd8\xff", b"\x89PNG")  # how the files begin that a server takes
NAMED_SO = (".jpg", ".jpeg", ".png")  # whatever they hold, the server says what is wrong with it


def predict_remotely(
    url: str,
    paths: Sequence[Path],
    out: Path,
    *,
    labels: Labels | None = None,
    score: float = 0.5,
    pictures: bool = True,
    label_maps: bool = False,
    limit: int | None = None,
    progress: Any = None,
    **connection: Any,
) -> list[Path]:
    """As `draw.draw_predictions`, of a model behind `url`; returns the pictures written to `out`.

    Files other than JPEG and PNG are sent as PNG. An image that the server cannot read does not
    keep the others from being written.

    Args:
        url: as `Client` takes it.
        paths: images, folders and patterns; no videos.
        out: folder.
        labels: names of the classes; without them pictures show category ids.
        score: least score of what is shown; ``predictions.json`` holds all.
        pictures: draw instances over each image.
        label_maps: write a 16-bit PNG of instance numbers for each image.
        limit: only so many images.
        progress: called with (done, total) images.
        **connection: keyword values of `Client`.

    Raises:
        FcisError: a path that is wrong, a server that does not answer or, after everything is
            written, images that could not be read.
    """
    files = find_files(paths)[:limit]
    for file in files:
        if is_video(file):
            raise FcisError(f"{file}: a server takes images; predict videos with --run")
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    found: list[dict] = []
    faults: list[str] = []
    with Client(url, **connection) as client:
        answers = client.stream(_uploads(files))
        for done, ((file, upload), answer) in enumerate(answers, start=1):
            if progress:
                progress(done, len(files))
            if not isinstance(answer, Answer):
                faults.append(f"{file}: {str(answer).partition(': ')[2]}")
                continue
            segments, names = _segments(answer, labels)
            found += results(file.name, segments, answer.height, answer.width, names)
            shown = [one for one in segments if one.score >= score]
            if pictures:
                written.append(out / f"{file.stem}.png")
                drawing.save_png(written[-1], draw_segments(_pixels(upload, answer), shown, names))
            if label_maps:
                written.append(out / f"{file.stem}_labels.png")
                drawing.save_png(written[-1], label_map(shown, answer.height, answer.width))
    write_json(out / "predictions.json", found, indent=None)
    if faults:
        others = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise FcisError(f"{faults[0]}{others}; the other images are in {out}")
    return written


def _uploads(files: Sequence[Path]) -> Iterator[tuple[tuple[Path, bytes], bytes]]:
    for file in files:
        upload = file.read_bytes()
        if upload and not upload.startswith(AS_THEY_ARE) and file.suffix.lower() not in NAMED_SO:
            buffer = io.BytesIO()
            Image.fromarray(read_image(file, upright=True)).save(buffer, "PNG")
            upload = buffer.getvalue()
        yield (file, upload), upload


def _segments(answer: Answer, labels: Labels | None) -> tuple[list[Segment], Labels]:
    """Segments with labels 1..C, and the labels they refer to."""
    ids = answer.category_ids.tolist()
    known = labels.ids if labels else ()
    if labels is None or not set(ids) <= set(known):
        used = tuple(sorted(set(ids) | set(known)))
        names = dict(zip(known, labels.names, strict=True)) if labels else {}
        labels = Labels(used, tuple(names.get(i, f"category {i}") for i in used))
    segments = [
        Segment(labels.ids.index(i) + 1, score, tuple(box), (top, left), crop)
        for i, score, box, (top, left, *_), crop in zip(
            ids,
            answer.scores.tolist(),
            answer.boxes.tolist(),
            answer.windows.tolist(),
            answer.crops,
            strict=True,
        )
    ]
    return segments, labels


def _pixels(upload: bytes, answer: Answer) -> np.ndarray:
    """The image as the server saw it: upright, unless only the stored one has that size."""
    with Image.open(io.BytesIO(upload)) as image:
        upright = ImageOps.exif_transpose(image) if upload.startswith(AS_THEY_ARE[0]) else image
        fits = upright.size == (answer.width, answer.height)
        return np.asarray(to_rgb(upright if fits else image))
