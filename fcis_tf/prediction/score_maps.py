"""The position-sensitive maps behind one instance, as pictures: the paper's Figure 2."""

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from fcis_tf.data.pipeline import network_input
from fcis_tf.drawing import MARGIN, PAPER, SIGNAL, column, row, titled
from fcis_tf.instances import Instances
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.structures import PIXEL_MEANS

GAP = 3  # between the maps of a mosaic
COLUMN, MOSAIC = 480, 720  # widths on the page
# Stops of a perceptual map, dark blue over green to yellow.
HEAT = np.array(
    [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64
)


def draw_score_maps(predictor: Predictor, image: np.ndarray, found: Instances) -> np.ndarray:
    """The paper's Figure 2 for the best detection: its class's maps and their assembly."""
    model, config = predictor.model, predictor.config
    k, classes = config.model.group_size, model.classes + 1
    pixels, scale = network_input(image, config.data)
    maps = model(pixels[None], training=False)
    if len(found):
        label, score = int(found.labels[0]), float(found.scores[0])
        roi = tf.constant(found.boxes[:1]) * scale
    else:
        label, score = 1, 0.0
        roi = tf.cast([[0, 0, *pixels.shape[:2]]], tf.float32)
    heads = model.score_rois(maps, roi[None], tf.constant([[label]]))
    cells = tf.reshape(
        tf.cast(maps.scores[0], tf.float32), [*maps.scores.shape[1:3], k, k, 2, classes]
    )
    shown = np.clip(np.asarray(pixels) + PIXEL_MEANS, 0, 255).astype(np.uint8)
    return draw_maps(
        shown,
        np.asarray(cells[..., label]),
        np.asarray(roi[0]),
        model.stride,
        np.asarray(heads.mask_logits[0, 0]),
        title=f"{predictor.labels.names[label - 1]}, score {score:.2f}",
    )


def draw_maps(
    image: np.ndarray,
    maps: np.ndarray,
    roi: np.ndarray,
    stride: int,
    assembled: np.ndarray,
    *,
    title: str,
) -> np.ndarray:
    """One class's position-sensitive maps and one ROI's assembly: the paper's Figure 2.

    Args:
        image: (H, W, 3) uint8 network input.
        maps: (Hf, Wf, k, k, 2) maps of the class, outside and inside.
        roi: (4,) in network pixels.
        stride: network pixels per map cell.
        assembled: (p, p, 2) mask logits of the ROI.
        title: headline.
    """
    k = maps.shape[2]
    scale = min(COLUMN / image.shape[1], COLUMN / image.shape[0])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    scene = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    _grid(ImageDraw.Draw(scene), np.asarray(roi) * scale, k)
    # One scale for all scores; a few extreme cells far from the ROI must not pale the rest.
    bound = max(float(np.abs(assembled).max()), float(np.quantile(np.abs(maps), 0.995)), 1e-6)
    tile = (COLUMN - 2 * MARGIN) // 3
    shown = [
        (_heat(assembled[..., 1], -bound, bound), "assembled inside"),
        (_heat(assembled[..., 0], -bound, bound), "assembled outside"),
        (_heat(_inside(assembled), 0.0, 1.0), "mask probability"),
    ]
    tiles = [titled(_scaled(heat, tile, tile), name) for heat, name in shown]
    bar = _scaled(_heat(np.linspace(0, 1, COLUMN)[None], 0, 1), 12, COLUMN)
    left = column(
        [
            titled(np.asarray(scene), f"image, ROI and its {k} x {k} cells"),
            row(tiles)[:, :-MARGIN],
            titled(bar, f"scores from {-bound:.1f} to {bound:.1f}; probability from 0 to 1"),
        ]
    )
    mosaics = [
        titled(
            _mosaic(maps[..., side], roi, stride, bound),
            f"{k} x {k} {name} maps; of each the ROI reads the white cell",
        )
        for side, name in ((1, "inside"), (0, "outside"))
    ]
    return titled(row([left, *mosaics]), title, 18)


def _inside(logits: np.ndarray) -> np.ndarray:
    """Probability (...) of inside from logits (..., 2) of outside and inside."""
    return 1 / (1 + np.exp(np.clip(logits[..., 0] - logits[..., 1], -80, 80)))


def _heat(values: np.ndarray, low: float, high: float) -> np.ndarray:
    place = np.clip((values - low) / (high - low), 0, 1) * (len(HEAT) - 1)
    below = np.minimum(place.astype(int), len(HEAT) - 2)
    part = (place - below)[..., None]
    return (HEAT[below] * (1 - part) + HEAT[below + 1] * part).round().astype(np.uint8)


def _scaled(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(image)


def _mosaic(maps: np.ndarray, roi: np.ndarray, stride: int, bound: float) -> np.ndarray:
    """All k x k maps (Hf, Wf, k, k) as heat maps, each with the ROI and the cell it serves."""
    rows, columns, k, _ = maps.shape
    scale = (MOSAIC // k - GAP) / max(rows, columns)
    height, width = max(round(rows * scale), 1), max(round(columns * scale), 1)
    page = Image.new("RGB", (k * (width + GAP) - GAP, k * (height + GAP) - GAP), PAPER)
    y0, x0, y1, x1 = (float(side) * scale / stride for side in roi)
    for gy in range(k):
        for gx in range(k):
            heat = _heat(maps[:, :, gy, gx], -bound, bound)
            tile = Image.fromarray(_scaled(heat, height, width))
            draw = ImageDraw.Draw(tile)
            draw.rectangle((x0, y0, x1, y1), outline=SIGNAL)
            top, left = y0 + gy * (y1 - y0) / k, x0 + gx * (x1 - x0) / k
            draw.rectangle((left, top, left + (x1 - x0) / k, top + (y1 - y0) / k), outline=PAPER)
            page.paste(tile, (gx * (width + GAP), gy * (height + GAP)))
    return np.asarray(page)


def _grid(draw: ImageDraw.ImageDraw, roi: np.ndarray, k: int) -> None:
    y0, x0, y1, x1 = (float(side) for side in roi)
    for i in range(1, k):
        y, x = y0 + i * (y1 - y0) / k, x0 + i * (x1 - x0) / k
        draw.line((x0, y, x1, y), fill=PAPER)
        draw.line((x, y0, x, y1), fill=PAPER)
    draw.rectangle((x0, y0, x1, y1), outline=SIGNAL, width=2)
