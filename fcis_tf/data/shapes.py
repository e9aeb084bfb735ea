"""A small generated data set in COCO format: textured shapes that touch and overlap.

Colours are random, so that only outlines identify classes and instances. Each image depends on the
seed, the split and its number alone.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

Progress = Callable[[int, int], None]

CATEGORIES = {1: "circle", 2: "square", 4: "triangle"}  # a gap, as COCO has
SUPERSAMPLING = 4  # shapes are drawn larger and averaged down, for smooth edges
LEAST_VISIBLE = 0.4  # of a shape; more hidden ones are not drawn at all
LEAST_PIXELS = 60


def generate_shapes(
    out: Path,
    *,
    train: int = 1000,
    validation: int = 100,
    size: int = 160,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write ``train/*.jpg``, ``train.json``, ``val/*.jpg`` and ``val.json`` under `out`.

    Args:
        out: folder, made if needed.
        train: images for training.
        validation: images held out.
        size: side of the square images in pixels.
        seed: the same seed writes the same bytes.
        progress: called with (images done, images in all).
    """
    done = 0
    for number, (split, count) in enumerate((("train", train), ("val", validation))):
        folder = out / split
        folder.mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            rng = np.random.default_rng([seed, number, index])
            picture, shapes = draw_image(rng, size)
            name = f"{index + 1:06d}.jpg"
            Image.fromarray(picture).save(folder / name, quality=92)
            images.append({"id": index + 1, "file_name": name, "height": size, "width": size})
            for category, mask in shapes:
                annotations.append(_annotation(len(annotations) + 1, index + 1, category, mask))
            done += 1
            if progress:
                progress(done, train + validation)
        categories = [{"id": i, "name": n} for i, n in CATEGORIES.items()]
        content = {
            "info": {"description": f"shapes, {split}, seed {seed}"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        partial = out / f"partial.{split}.json"
        partial.write_text(json.dumps(content))
        partial.replace(out / f"{split}.json")


def draw_image(
    rng: np.random.Generator, size: int
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """One picture (size, size, 3) uint8 and its (category id, visible mask (size, size) bool).

    Half of the shapes are put beside or over an earlier one of the same class. Later shapes hide
    earlier ones; a place where that would hide too much of any is not used.
    """
    picture = _texture(rng, size, contrast=0.25)
    placed: list[tuple[int, np.ndarray, np.ndarray]] = []  # category, whole, visible
    centers: list[tuple[int, float, float, float]] = []
    wanted = int(rng.integers(3, 8))
    for _ in range(wanted * 4):
        if len(placed) == wanted:
            break
        category, radius, y, x = _place(rng, size, centers)
        coverage = _draw(rng, category, radius, y, x, size)
        mask = coverage >= 0.5
        visible = [(c, whole, seen & ~mask) for c, whole, seen in placed]
        if mask.sum() < LEAST_PIXELS or not all(_enough(whole, seen) for _, whole, seen in visible):
            continue
        placed = [*visible, (category, mask, mask)]
        centers.append((category, radius, y, x))
        picture = _paint(rng, picture, coverage)
    noise = rng.normal(0.0, 0.015, picture.shape)
    pixels = np.clip(255.0 * (picture + noise), 0, 255).astype(np.uint8)
    return pixels, [(category, seen) for category, _, seen in placed]


def _enough(whole: np.ndarray, seen: np.ndarray) -> bool:
    return bool(seen.sum() >= max(LEAST_PIXELS, LEAST_VISIBLE * whole.sum()))


def _place(
    rng: np.random.Generator, size: int, centers: list[tuple[int, float, float, float]]
) -> tuple[int, float, float, float]:
    """Category, radius and centre of the next shape; in half of the cases next to a like one."""
    radius = size * rng.uniform(0.09, 0.19)
    if centers and rng.uniform() < 0.5:
        category, other, y, x = centers[rng.integers(len(centers))]
        radius = other * rng.uniform(0.8, 1.25)
        angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.0) * (radius + other)
        y, x = y + gap * np.sin(angle), x + gap * np.cos(angle)
    else:
        category = int(rng.choice(list(CATEGORIES)))
        y, x = rng.uniform(0, size, 2)
    # Half a radius inside, so that a shape cut by the border can still be recognised.
    y, x = np.clip([y, x], 0.5 * radius, size - 0.5 * radius)
    return category, radius, float(y), float(x)


def _draw(
    rng: np.random.Generator, category: int, radius: float, y: float, x: float, size: int
) -> np.ndarray:
    """Coverage (size, size) in 0..1 of one rotated, slightly stretched shape."""
    name = CATEGORIES[category]
    turn = rng.uniform(0, 2 * np.pi)
    if name == "circle":
        angles, radii = np.linspace(0, 2 * np.pi, 64, endpoint=False), np.ones(64)
    else:
        corners = 4 if name == "square" else 3
        angles, radii = np.arange(corners) * 2 * np.pi / corners, np.full(corners, 1.15)
    stretch = rng.uniform(0.8, 1.0)
    points = np.stack([radii * np.sin(angles) * stretch, radii * np.cos(angles)])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = radius * (rotation @ points) + np.array([[y], [x]])
    canvas = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    outline = [(px * SUPERSAMPLING, py * SUPERSAMPLING) for py, px in points.T]
    ImageDraw.Draw(canvas).polygon(outline, fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), np.float64) / 255.0


def _paint(rng: np.random.Generator, picture: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Lay a shape of its own colour, texture and slightly darker rim over the picture."""
    size = len(picture)
    surface = _texture(rng, size, contrast=0.12)
    depth = np.asarray(
        Image.fromarray((255 * coverage).astype(np.uint8))
        .resize((size // 8, size // 8))
        .resize((size, size), Image.Resampling.BICUBIC),
        np.float64,
    )
    rim = 0.75 + 0.25 * np.clip(depth / 255.0, 0, 1)
    alpha = coverage[..., None]
    return picture * (1 - alpha) + surface * rim[..., None] * alpha


def _texture(rng: np.random.Generator, size: int, *, contrast: float) -> np.ndarray:
    """A random colour (size, size, 3) in 0..1, modulated by noise of several scales."""
    colour = rng.uniform(0.15, 0.85, 3)
    noise = np.zeros((size, size))
    for cells in (3, 6, 12, 24, 48):
        grid = rng.normal(size=(cells, cells)).astype(np.float32)
        layer = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        noise += np.asarray(layer) * (3.0 / cells) ** 0.5
    tint = rng.normal(1.0, 0.3, 3)
    return np.clip(colour + contrast * 0.3 * noise[..., None] * tint, 0, 1)


def _annotation(number: int, image: int, category: int, mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }
