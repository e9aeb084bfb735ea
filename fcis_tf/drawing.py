"""Pictures: instances over an image, ground truth as the network sees it, score maps.

All functions take and return (H, W, 3) uint8 RGB arrays.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcis_tf.geometry.paste import paste_masks
from fcis_tf.labels import Labels

READABLE = 480  # pictures with a shorter side below this are enlarged
MARGIN, GAP = 8, 3  # between pictures, between the maps of a mosaic
COLUMN, MOSAIC = 480, 720  # widths on the page of score maps
INK, PAPER, SIGNAL = (20, 20, 20), (255, 255, 255), (255, 80, 60)
# Okabe and Ito's colours, which the colour-blind can tell apart
# too; in the order that keeps neighbours of all three rounds of `instance_color` furthest apart.
PALETTE = np.array(
    [
        [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66],
        [204, 121, 167], [213, 94, 0], [0, 114, 178],
    ]
)  # fmt: skip
# Stops of a perceptual map, dark blue over green to yellow.
HEAT = np.array(
    [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64
)


def draw_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray,
    names: list[str],
    scores: np.ndarray | None = None,
    *,
    colors: list[tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """As `draw_cut_outs`, of masks (n, H, W) bool."""
    cut_outs = [((0, 0), mask) for mask in masks]
    return draw_cut_outs(image, boxes, cut_outs, names, scores, colors=colors)


def draw_cut_outs(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]] | np.ndarray,
    cut_outs: list[tuple[tuple[int, int], np.ndarray]],
    names: list[str],
    scores: Sequence[float] | np.ndarray | None = None,
    *,
    colors: list[tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """Translucent masks with a crisp outline, thin boxes, and a tag with class and score.

    A small image is enlarged by a whole number so that the tags can be read.

    Args:
        image: (H, W, 3) uint8.
        boxes: (n, 4) (y0, x0, y1, x1) in its pixels.
        cut_outs: n masks (h, w) bool, each with its first row and column in the image.
        names: n class names.
        scores: (n,), or None for ground truth.
        colors: n, or None for one of its own for each.
    """
    zoom = max(1, round(READABLE / min(image.shape[:2])))
    canvas = np.repeat(np.repeat(image, zoom, 0), zoom, 1)
    width = max(1, min(canvas.shape[:2]) // 600)
    colors = colors or [instance_color(i) for i in range(len(cut_outs))]
    for ((top, left), mask), color in zip(cut_outs, colors, strict=True):
        large = np.repeat(np.repeat(mask, zoom, 0), zoom, 1)
        window = canvas[top * zoom :, left * zoom :][: large.shape[0], : large.shape[1]]
        window[large] = (0.6 * window[large] + 0.4 * np.array(color)).round()
        window[_outline(large, width)] = color
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    frames = [tuple(float(side) * zoom for side in box) for box in boxes]
    for (y0, x0, y1, x1), color in zip(frames, colors, strict=True):
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=color, width=width)
    texts = (
        names if scores is None else [f"{n} {s:.2f}" for n, s in zip(names, scores, strict=True)]
    )
    _tags(draw, frames, texts, colors)
    return np.asarray(picture)


def draw_batch(batch: dict[str, np.ndarray], labels: Labels, means: np.ndarray) -> list[np.ndarray]:
    """The ground truth of each image of a batch as the network sees it.

    Args:
        batch: arrays of the `batch` of structures.py.
        labels: the classes.
        means: (3,) channel means to add back.
    """
    pictures = []
    for i, (height, width) in enumerate(batch["image_size"].astype(int)):
        pixels = np.clip(batch["image"][i][:height, :width] + means, 0, 255).astype(np.uint8)
        present = batch["labels"][i] > 0
        boxes = batch["boxes"][i][present]
        masks = paste_masks(batch["masks"][i][present] / 255.0, boxes, height, width, 0.5)
        names = [labels.names[n - 1] for n in batch["labels"][i][present]]
        picture = draw_instances(pixels, boxes, masks, names)
        name = batch["image_id"][i].decode()
        scale = batch["scale"][i]
        title = f"image {name}: {height} x {width}, scale {scale:.3f}, {len(names)} instances"
        pictures.append(_titled(picture, title))
    return pictures


def draw_score_maps(
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
    tiles = [_titled(_scaled(heat, tile, tile), name) for heat, name in shown]
    bar = _scaled(_heat(np.linspace(0, 1, COLUMN)[None], 0, 1), 12, COLUMN)
    left = _column(
        [
            _titled(np.asarray(scene), f"image, ROI and its {k} x {k} cells"),
            _row(tiles)[:, :-MARGIN],
            _titled(bar, f"scores from {-bound:.1f} to {bound:.1f}; probability from 0 to 1"),
        ]
    )
    mosaics = [
        _titled(
            _mosaic(maps[..., side], roi, stride, bound),
            f"{k} x {k} {name} maps; of each the ROI reads the white cell",
        )
        for side, name in ((1, "inside"), (0, "outside"))
    ]
    return _titled(_row([left, *mosaics]), title, 18)


def contact_sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures side by side in rows, on white."""
    return _column([_row(pictures[i : i + columns]) for i in range(0, len(pictures), columns)])


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write a PNG; the file appears only when it is whole."""
    partial = path.with_name("partial." + path.name)
    Image.fromarray(picture).save(partial, "PNG")
    partial.replace(path)


def instance_color(number: int) -> tuple[int, int, int]:
    """A colour of the palette; its second and third round are lighter and darker."""
    color = PALETTE[number % len(PALETTE)].astype(np.float64)
    shade = number // len(PALETTE) % 3
    red, green, blue = (color, 0.6 * color + 102, 0.75 * color)[shade].round().astype(int)
    return int(red), int(green), int(blue)


def _inside(logits: np.ndarray) -> np.ndarray:
    """Probability (...) of inside from logits (..., 2) of outside and inside."""
    return 1 / (1 + np.exp(np.clip(logits[..., 0] - logits[..., 1], -80, 80)))


def _outline(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask within `width` steps of a pixel outside it."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _tags(
    draw: ImageDraw.ImageDraw,
    frames: list[tuple[float, ...]],
    texts: list[str],
    colors: list[tuple[int, int, int]],
) -> None:
    """A tag for every box; each looks for a place that no earlier tag has."""
    width, height = draw.im.size
    font = ImageFont.load_default(max(12, min(width, height) // 50))
    taken: list[tuple[float, float, float, float]] = []
    for frame, text in zip(frames, texts, strict=True):
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        taken.append(_place(frame, (right - left + 6, bottom - top + 5), (width, height), taken))
    # Best last, so that where there is no room its tag is on top.
    for (x0, y0, x1, y1), text, color in reversed(list(zip(taken, texts, colors, strict=True))):
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=color)
        left, top, _, _ = draw.textbbox((0, 0), text, font=font)
        dark = np.dot(color, (0.299, 0.587, 0.114)) < 120
        draw.text((x0 + 3 - left, y0 + 2 - top), text, fill=PAPER if dark else INK, font=font)


def _place(
    frame: tuple[float, ...],
    tag: tuple[float, float],
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Where a tag (width, height) goes: (x0, y0, x1, y1), inside the picture if it fits at all."""
    (y0, x0, y1, x1), (width, height) = frame, tag
    above, inside, below = y0 - height, y0, y1
    rows = (above, inside, below) if y1 - y0 > 4 * height else (above, below, inside)
    columns = [max(min(x, size[0] - width), 0) for x in (x0, x1 - width)]
    places = [(x, y) for x in columns for y in rows if 0 <= y <= size[1] - height]
    places.append((columns[0], max(min(above, size[1] - height), 0)))
    corners = [(round(x), round(y), round(x) + width, round(y) + height) for x, y in places]
    free = (
        (a, b, c, d)
        for a, b, c, d in corners
        if not any(a < g and e < c and b < h and f < d for e, f, g, h in taken)
    )
    return next(free, corners[0])


def _titled(picture: np.ndarray, title: str, size: int = 13) -> np.ndarray:
    """A line above a picture, which gets wider if the line is."""
    font = ImageFont.load_default(size)
    width = max(picture.shape[1], int(font.getlength(title)) + 4)
    strip = Image.new("RGB", (width, size + 9), PAPER)
    ImageDraw.Draw(strip).text((2, 4), title, fill=INK, font=font)
    return np.concatenate([np.asarray(strip), _padded(picture, picture.shape[0], width)], 0)


def _column(pictures: list[np.ndarray]) -> np.ndarray:
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([_padded(p, p.shape[0] + MARGIN, width) for p in pictures], 0)


def _row(pictures: list[np.ndarray]) -> np.ndarray:
    height = max(picture.shape[0] for picture in pictures)
    return np.concatenate([_padded(p, height, p.shape[1] + MARGIN) for p in pictures], 1)


def _padded(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
    return np.pad(picture, missing, constant_values=255)


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
