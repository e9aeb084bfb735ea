"""Pictures: instances over an image, ground truth as the network sees it, score maps.

All functions take and return (H, W, 3) uint8 RGB arrays.
"""

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcis_tf.geometry.paste import paste_masks
from fcis_tf.labels import Labels

READABLE = 480  # pictures with a shorter side below this are enlarged
MARGIN = 8
INK, PAPER, FAINT = (20, 20, 20), (255, 255, 255), (120, 120, 120)
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
) -> np.ndarray:
    """Translucent masks with a crisp outline, thin boxes, and a tag with class and score.

    A small image is enlarged by a whole number so that the tags can be read.

    Args:
        image: (H, W, 3) uint8.
        boxes: (n, 4) (y0, x0, y1, x1) in its pixels.
        masks: (n, H, W) bool.
        names: n class names.
        scores: (n,), or None for ground truth.
    """
    zoom = max(1, round(READABLE / min(image.shape[:2])))
    canvas = np.repeat(np.repeat(image, zoom, 0), zoom, 1).astype(np.float64)
    colors = [instance_color(i) for i in range(len(masks))]
    for mask, color in zip(masks, colors, strict=True):
        large = np.repeat(np.repeat(mask, zoom, 0), zoom, 1)
        canvas[large] = 0.6 * canvas[large] + 0.4 * np.array(color)
        canvas[_outline(large)] = color
    picture = Image.fromarray(canvas.round().astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for box, color in zip(boxes, colors, strict=True):
        y0, x0, y1, x1 = (float(v) * zoom for v in box)
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=color)
    # Worst first, so that the tag of the best instance is on top.
    for i in reversed(range(len(masks))):
        text = names[i] if scores is None else f"{names[i]} {scores[i]:.2f}"
        _tag(draw, picture.size, (boxes[i][1] * zoom, boxes[i][0] * zoom), text, colors[i])
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
    zoom = max(1, round(READABLE / min(image.shape[:2])))
    scene = Image.fromarray(np.repeat(np.repeat(image, zoom, 0), zoom, 1))
    draw = ImageDraw.Draw(scene)
    _grid(draw, np.asarray(roi) * zoom, k, width=2)
    height = scene.size[1]
    bound = max(float(np.abs(maps).max()), 1e-6)
    panels = [(np.asarray(scene), "image, ROI and its cells")]
    for side, name in ((1, "inside"), (0, "outside")):
        mosaic = _mosaic(maps[..., side], roi, stride, bound, height)
        panels.append((mosaic, f"{k} x {k} {name} maps; the ROI reads the framed cell of each"))
    difference = assembled[..., 1] - assembled[..., 0]
    reach = max(float(np.abs(assembled).max()), 1e-6)
    tile = (height - 2 * (MARGIN + 22)) // 3
    shown = [
        (_heat(assembled[..., 1], -reach, reach), "assembled inside"),
        (_heat(assembled[..., 0], -reach, reach), "assembled outside"),
        (_heat(1 / (1 + np.exp(-difference)), 0.0, 1.0), "mask probability"),
    ]
    column = [_titled(_scaled(heat, tile, tile), name) for heat, name in shown]
    tallest = [_titled(picture, name) for picture, name in panels]
    return _titled(_row([*tallest, np.concatenate(column, 0)]), title)


def contact_sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures side by side in rows, on white."""
    rows = [_row(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, row.shape[0] + MARGIN, width) for row in rows], 0)


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write a PNG; the file appears only when it is whole."""
    partial = path.with_name("partial." + path.name)
    Image.fromarray(picture).save(partial, "PNG")
    partial.replace(path)


def instance_color(number: int) -> tuple[int, int, int]:
    """A bright colour, far in hue from those of the numbers just before."""
    hue = (0.08 + number * 0.618034) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 if number % 2 else 0.65, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _tag(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[float, float],
    text: str,
    color: tuple[int, int, int],
) -> None:
    """A label above `corner`, moved so that it stays inside the picture."""
    font = ImageFont.load_default(12)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 5
    x = min(max(corner[0], 0), max(size[0] - width, 0))
    y = corner[1] - height if corner[1] >= height else min(corner[1], size[1] - height)
    y = max(y, 0)
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    draw.text((x + 3 - left, y + 2 - top), text, fill=INK, font=font)


def _titled(picture: np.ndarray, title: str) -> np.ndarray:
    strip = Image.new("RGB", (picture.shape[1], 22), PAPER)
    ImageDraw.Draw(strip).text((2, 4), title, fill=INK, font=ImageFont.load_default(13))
    return np.concatenate([np.asarray(strip), picture], 0)


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


def _mosaic(
    maps: np.ndarray, roi: np.ndarray, stride: int, bound: float, height: int
) -> np.ndarray:
    """All k x k maps (Hf, Wf, k, k) as heat maps, each with the ROI and the cell it serves."""
    rows, columns, k, _ = maps.shape
    side = (height - (k - 1) * 3) // k
    width = max(round(side * columns / rows), 1)
    page = Image.new("RGB", (k * (width + 3) - 3, k * (side + 3) - 3), PAPER)
    factor = np.array([side / rows, width / columns] * 2) / stride
    for gy in range(k):
        for gx in range(k):
            tile = Image.fromarray(_scaled(_heat(maps[:, :, gy, gx], -bound, bound), side, width))
            draw = ImageDraw.Draw(tile)
            y0, x0, y1, x1 = (float(v) for v in np.asarray(roi) * factor)
            draw.rectangle((x0, y0, x1, y1), outline=FAINT)
            cell = (
                x0 + gx * (x1 - x0) / k,
                y0 + gy * (y1 - y0) / k,
                x0 + (gx + 1) * (x1 - x0) / k,
                y0 + (gy + 1) * (y1 - y0) / k,
            )
            draw.rectangle(cell, outline=PAPER)
            page.paste(tile, (gx * (width + 3), gy * (side + 3)))
    return np.asarray(page)


def _grid(draw: ImageDraw.ImageDraw, roi: np.ndarray, k: int, *, width: int) -> None:
    y0, x0, y1, x1 = (float(v) for v in roi)
    for i in range(1, k):
        y, x = y0 + i * (y1 - y0) / k, x0 + i * (x1 - x0) / k
        draw.line((x0, y, x1, y), fill=PAPER)
        draw.line((x, y0, x, y1), fill=PAPER)
    draw.rectangle((x0, y0, x1, y1), outline=(255, 80, 60), width=width)
