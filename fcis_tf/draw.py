"""Predictions of image files as pictures: instances, and the score maps behind them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from fcis_tf import visualize
from fcis_tf.data.pipeline import network_input
from fcis_tf.errors import FcisError
from fcis_tf.evaluate import coco
from fcis_tf.inference import Instances, Predictor, first, load_run, read_image, resizing
from fcis_tf.labels import Labels
from fcis_tf.model.backbone import PIXEL_MEANS
from fcis_tf.model.fold import fold

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def draw_predictions(
    run: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    score: float = 0.5,
    score_maps: bool = False,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: Any = None,
) -> list[Path]:
    """Draw the instances of image files and folders; returns the pictures written to `out`.

    Also writes ``predictions.json``, COCO results with the file name as image id, of all
    detections; pictures show those with at least `score`.

    Raises:
        FcisError: a path that does not exist or is not an image, or no image at all.
    """
    files = list(first(iter(_image_files(paths)), limit))
    if not files:
        raise FcisError(f"{paths[0] if paths else 'paths'}: no image files found")
    _, labels, trained = load_run(run, overrides)
    model = fold(trained)
    predictor = Predictor(model)
    out.mkdir(parents=True, exist_ok=True)
    written, results = [], []
    for done, file in enumerate(files, start=1):
        image = read_image(file)
        found = predictor.image(image)
        results += coco.results(
            file.name, found.boxes, found.labels, found.scores, found.masks, labels
        )
        shown = found.scores >= score
        picture = visualize.draw_instances(
            image,
            found.boxes[shown],
            found.masks[shown],
            [labels.names[i - 1] for i in found.labels[shown]],
            found.scores[shown],
        )
        target = out / f"{file.stem}.png"
        visualize.save_png(target, picture)
        written.append(target)
        if score_maps:
            page = draw_score_maps(predictor, image, found, labels)
            visualize.save_png(out / f"{file.stem}_score_maps.png", page)
            written.append(out / f"{file.stem}_score_maps.png")
        if progress:
            progress(done, len(files))
    coco.save_results(results, out / "predictions.json")
    return written


def draw_score_maps(
    predictor: Predictor, image: np.ndarray, found: Instances, labels: Labels
) -> np.ndarray:
    """The paper's Figure 2 for the best detection: its class's maps and their assembly."""
    model, config = predictor.model, predictor.config
    k, classes = config.model.group_size, model.classes + 1
    pixels, scale = network_input(image, **resizing(config))
    maps = model(pixels[None], training=False)
    if len(found.labels):
        label, score = int(found.labels[0]), float(found.scores[0])
        roi = tf.constant(found.boxes[:1] * float(scale))
    else:
        label, score = 1, 0.0
        roi = tf.cast([[0, 0, *pixels.shape[:2]]], tf.float32)
    heads = model.read(maps, roi[None], tf.constant([[label]]))
    cells = tf.reshape(
        tf.cast(maps.scores[0], tf.float32), [*maps.scores.shape[1:3], k, k, 2, classes]
    )
    shown = np.clip(np.asarray(pixels) + PIXEL_MEANS, 0, 255).astype(np.uint8)
    return visualize.draw_score_maps(
        shown,
        np.asarray(cells[..., label]),
        np.asarray(roi[0]),
        model.stride,
        np.asarray(heads.mask_logits[0, 0]),
        title=f"{labels.names[label - 1]}, score {score:.2f}",
    )


def _image_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
        elif path.exists():
            yield path
        else:
            raise FcisError(f"{path}: no such file or folder")
