"""Prediction of image files by a server, written as pictures and COCO results."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fcis_tf.data.images import read_image, to_rgb
from fcis_tf.errors import FcisError
from fcis_tf.instances import Instances
from fcis_tf.prediction.inputs import Picture, find_files
from fcis_tf.prediction.output import OutputFolder, OutputOptions
from fcis_tf.prediction.video import is_video
from fcis_tf.serving.client.client import Client, ImageError

AS_THEY_ARE = (
    b"\xff\xd8\xff",
    b"\x89PNG",
)  # first bytes of JPEG and PNG, which are sent as they are
NAMED_SO = (".jpg", ".jpeg", ".png")  # sent whatever they contain; the server reports errors


def predict_remotely(
    url: str,
    paths: Sequence[str | Path],
    out: str | Path,
    options: OutputOptions | None = None,
    *,
    limit: int | None = None,
    progress: Any = None,
    **connection: Any,
) -> list[Path]:
    """As `predict_files`, with a model on a server; returns the pictures written to `out`.

    Files other than JPEG and PNG are sent as PNG. If the server cannot read an image, the others
    are written all the same.

    Args:
        url: as for `Client`.
        paths: images, folders and patterns; no videos.
        out: folder of the pictures and of ``predictions.json``, the COCO results of all instances.
        options: what else is written; by default pictures. Score maps are not available.
        limit: maximum number of images.
        progress: called with (done, total) images.
        **connection: keyword values of `Client`.

    Raises:
        FcisError: a wrong path, a server that does not respond or, after everything is written,
            images that could not be read.
    """
    files = find_files([Path(path) for path in paths])[:limit]
    for file in files:
        if is_video(file):
            raise FcisError(f"{file}: a server takes images; predict videos with --run")
    faults: list[str] = []
    with (
        OutputFolder(Path(out), options or OutputOptions()) as folder,
        Client(url, **connection) as client,
    ):
        answers = client.stream(_uploads(files))
        for done, ((file, upload), found) in enumerate(answers, start=1):
            if isinstance(found, ImageError):
                faults.append(f"{file}: {str(found).partition(': ')[2]}")
            else:
                folder.write(Picture(file, None, _pixels(upload, found)), found)
            if progress:
                progress(done, len(files))
    if faults:
        others = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise FcisError(f"{faults[0]}{others}; the other images are in {out}")
    return folder.written


def _uploads(files: Sequence[Path]) -> Iterator[tuple[tuple[Path, bytes], bytes]]:
    for file in files:
        upload = file.read_bytes()
        if upload and not upload.startswith(AS_THEY_ARE) and file.suffix.lower() not in NAMED_SO:
            buffer = io.BytesIO()
            Image.fromarray(read_image(file, upright=True)).save(buffer, "PNG")
            upload = buffer.getvalue()
        yield (file, upload), upload


def _pixels(upload: bytes, found: Instances) -> np.ndarray:
    """The image as the server read it: upright, unless only the stored one has that size."""
    with Image.open(io.BytesIO(upload)) as image:
        upright = ImageOps.exif_transpose(image) if upload.startswith(AS_THEY_ARE[0]) else image
        fits = upright.size == (found.width, found.height)
        return np.asarray(to_rgb(upright if fits else image))
