"""Statistics of a folder of records, and drawings of its ground truth."""

from pathlib import Path

import numpy as np

from fcis_tf import drawing
from fcis_tf.config import Config
from fcis_tf.data.pipeline import training_dataset
from fcis_tf.data.records import load_labels, read_records
from fcis_tf.geometry.paste import paste_masks
from fcis_tf.labels import Labels
from fcis_tf.structures import PIXEL_MEANS


def inspect_records(
    records: Path, out: Path, config: Config, *, limit: int
) -> tuple[str, list[Path]]:
    """Draw `limit` training examples with the augmentation of the configuration.

    Returns:
        A summary to print and the pictures written to `out`.

    Raises:
        FcisError: no records, of another schema, or without any instance.
    """
    labels = Labels.load(config.data.labels) if config.data.labels else load_labels(records)
    summary = _summary(records, labels)
    dataset = training_dataset(records, labels, config.data, batch_size=1, seed=config.train.seed)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for number, batch in enumerate(dataset.take(limit).as_numpy_iterator()):
        for picture in draw_batch(batch, labels):
            path = out / f"example_{number:03d}.png"
            drawing.save_png(path, picture)
            written.append(path)
    return summary, written


def draw_batch(batch: dict[str, np.ndarray], labels: Labels) -> list[np.ndarray]:
    """The ground truth of each image of a batch as the network sees it.

    Args:
        batch: arrays of the `batch` of structures.py.
        labels: the classes.
    """
    pictures = []
    for i, (height, width) in enumerate(batch["image_size"].astype(int)):
        # Masks are drawn in the frame of the network input, without the padding of the batch.
        pixels = np.clip(batch["image"][i][:height, :width] + PIXEL_MEANS, 0, 255).astype(np.uint8)
        present = batch["labels"][i] > 0
        boxes = batch["boxes"][i][present]
        masks = paste_masks(batch["masks"][i][present] / 255.0, boxes, height, width, 0.5)
        names = [labels.names[n - 1] for n in batch["labels"][i][present]]
        picture = drawing.draw_instances(pixels, boxes, masks, names)
        name = batch["image_id"][i].decode()
        scale = batch["scale"][i]
        title = f"image {name}: {height} x {width}, scale {scale:.3f}, {len(names)} instances"
        pictures.append(drawing.titled(picture, title))
    return pictures


def _summary(records: Path, labels: Labels) -> str:
    counts = dict.fromkeys(labels.ids, 0)
    sides: list[float] = []
    images = empty = crowds = most = 0
    for record in read_records(records):
        images += 1
        empty += not record.instances
        most = max(most, len(record.instances))
        for instance in record.instances:
            crowds += instance.crowd
            counts[instance.category_id] += 1
            y0, x0, y1, x1 = instance.box
            sides.append(float(np.sqrt((y1 - y0) * (x1 - x0))))
    lines = [
        f"{images} images, {len(sides)} instances ({crowds} crowds), {empty} images without any, "
        f"at most {most} in one",
    ]
    if sides:
        low, middle, high = np.quantile(sides, [0.05, 0.5, 0.95])
        lines.append(f"box side sqrt(h w): 5 % {low:.0f}, median {middle:.0f}, 95 % {high:.0f} px")
    for category, name in zip(labels.ids, labels.names, strict=True):
        lines.append(f"  {counts[category]:7d}  {category:4d} {name}")
    return "\n".join(lines)
