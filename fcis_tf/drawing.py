"""Pictures: instances over an image, pictures side by side, PNG files.

All functions take and return (H, W, 3) uint8 RGB arrays.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcis_tf.cutouts import CutOut
from fcis_tf.files import partial_name

READABLE = 480  # pictures with a shorter side below this are enlarged
MARGIN = 8  # between pictures
INK, PAPER, SIGNAL = (20, 20, 20), (255, 255, 255), (255, 80, 60)
# Okabe and Ito's colours, which colour-blind people can distinguish
# too; in the order that keeps neighbours of all three rounds of `instance_color` furthest apart.
PALETTE = np.array(
    [
        [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66],
        [204, 121, 167], [213, 94, 0], [0, 114, 178],
    ]
)  # fmt: skip


def draw_instances(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]] | np.ndarray,
    masks: Sequence[CutOut] | np.ndarray,
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
        masks: n cut-outs, or (n, H, W) bool.
        names: n class names.
        scores: (n,), or None for ground truth.
        colors: n, or None for one of its own for each.
    """
    zoom = max(1, round(READABLE / min(image.shape[:2])))
    canvas = np.repeat(np.repeat(image, zoom, 0), zoom, 1)
    width = max(1, min(canvas.shape[:2]) // 600)
    colors = colors or [instance_color(i) for i in range(len(names))]
    cutouts = [one if isinstance(one, CutOut) else CutOut(0, 0, one) for one in masks]
    for (top, left, mask), color in zip(cutouts, colors, strict=True):
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


def contact_sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures side by side in rows, on white."""
    return column([row(pictures[i : i + columns]) for i in range(0, len(pictures), columns)])


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write a PNG; the file appears only when it is whole."""
    save_image(path, Image.fromarray(picture), "PNG")


def save_image(path: Path, image: Image.Image, kind: str) -> None:
    """Write an image in a format of Pillow; the file appears only when it is whole."""
    partial = partial_name(path)
    try:
        image.save(partial, kind)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def instance_color(number: int) -> tuple[int, int, int]:
    """A colour of the palette; its second and third round are lighter and darker."""
    color = PALETTE[number % len(PALETTE)].astype(np.float64)
    shade = number // len(PALETTE) % 3
    red, green, blue = (color, 0.6 * color + 102, 0.75 * color)[shade].round().astype(int)
    return int(red), int(green), int(blue)


def titled(picture: np.ndarray, title: str, size: int = 13) -> np.ndarray:
    """A line above a picture, which gets wider if the line is."""
    font = ImageFont.load_default(size)
    width = max(picture.shape[1], int(font.getlength(title)) + 4)
    strip = Image.new("RGB", (width, size + 9), PAPER)
    ImageDraw.Draw(strip).text((2, 4), title, fill=INK, font=font)
    return np.concatenate([np.asarray(strip), _padded(picture, picture.shape[0], width)], 0)


def column(pictures: list[np.ndarray]) -> np.ndarray:
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([_padded(p, p.shape[0] + MARGIN, width) for p in pictures], 0)


def row(pictures: list[np.ndarray]) -> np.ndarray:
    height = max(picture.shape[0] for picture in pictures)
    return np.concatenate([_padded(p, height, p.shape[1] + MARGIN) for p in pictures], 1)


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


def _padded(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
    return np.pad(picture, missing, constant_values=255)
