"""A data set and results of any number of images, to time `fcis evaluate`.

    python scripts/research/synthetic_results.py 5000 FOLDER

writes truth.json, results.json and images/: 640 x 480 pixels, 80 classes, about 7 instances and 40
detections per image, all irregular ellipses as compressed RLE; six detections of ten belong to an
instance.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH, CLASSES = 480, 640, 80
ANGLES = np.linspace(0, 2 * np.pi, 60, endpoint=False)


def outline(rng):
    """(y, x, radius y, radius x, phase) of an ellipse."""
    radius = np.exp(rng.uniform(np.log(8), np.log(120)))
    place = rng.uniform(0, [HEIGHT, WIDTH])
    return np.array([*place, *radius * rng.uniform(0.6, 1.4, 2), rng.uniform(0, 6)])


def moved(shape, amount, rng):
    """The ellipse, shifted and stretched by a part of its size."""
    shift, stretch = amount * rng.normal(size=2), np.exp(amount / 2 * rng.normal(size=2))
    return np.concatenate([shape[:2] + shift * shape[2:4], shape[2:4] * stretch, shape[4:]])


def row(image_id, category, shape):
    """A COCO entry with the mask of an ellipse, None if it is outside the image."""
    y, x, ry, rx, phase = shape
    radius = 1 + 0.2 * np.sin(3 * ANGLES + phase) + 0.08 * np.sin(9 * ANGLES + 2 * phase)
    points = np.stack([x + rx * radius * np.cos(ANGLES), y + ry * radius * np.sin(ANGLES)], 1)
    rle = coco_mask.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH)[0]
    if not coco_mask.area(rle):
        return None
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": float(coco_mask.area(rle)),
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
    }


def main(count, folder):
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations, results = [], [], []
    for number in range(1, count + 1):
        name = f"{number:06d}.jpg"
        Image.new("RGB", (WIDTH, HEIGHT), tuple(rng.integers(60, 200, 3).tolist())).save(
            folder / "images" / name
        )
        images.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        there = []
        for _ in range(rng.poisson(7)):
            shape, category = outline(rng), int(rng.integers(1, CLASSES + 1))
            if made := row(number, category, shape):
                there.append((shape, category))
                annotations.append(made | {"id": len(annotations) + 1, "iscrowd": 0})
        for _ in range(rng.poisson(40)):
            shape, category, score = outline(rng), int(rng.integers(1, CLASSES + 1)), rng.beta(1, 3)
            if there and rng.uniform() < 0.6:
                near, right = there[rng.integers(len(there))]
                shape, score = moved(near, rng.choice([0.05, 0.2, 0.5]), rng), rng.beta(3, 2)
                category = right if rng.uniform() < 0.8 else category
            if made := row(number, category, shape):
                results.append(made | {"score": float(score)})
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    print(f"{count} images, {len(annotations)} instances, {len(results)} detections in {folder}")


main(int(sys.argv[1]), Path(sys.argv[2]))
