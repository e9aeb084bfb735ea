"""Small data sets made on the spot."""

import io

import numpy as np
from PIL import Image

from fcis_tf.data.records import Instance, Record

# Overrides for a network of some ten thousand weights in its heads, quick on a processor.
TINY = (
    "model.backbone=small",
    "model.norm=group",
    "model.output_stride=8",
    "model.group_size=3",
    "model.pooled_size=9",
    "model.anchor_sizes=[16,32]",
    "model.rpn_channels=16",
    "model.head_channels=16",
    "model.head_init=he",
)
NAMES = {3: "disc", 7: "block", 9: "other"}


def encode_image(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def disc(height, width, y, x, radius):
    rows, columns = np.mgrid[:height, :width] + 0.5
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)


def tight_box(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return tuple(map(float, (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)))


def make_record(rng, image_id="1", height=60, width=80, instances=3, crowds=0, kind="PNG"):
    found = []
    for n in range(instances + crowds):
        y, x = rng.uniform(10, height - 10), rng.uniform(10, width - 10)
        mask = disc(height, width, y, x, rng.uniform(5, 14))
        category = int(rng.choice(list(NAMES)))
        found.append(
            Instance(
                tight_box(mask), category, NAMES[category], mask, n >= instances, float(mask.sum())
            )
        )
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    encoded = encode_image(pixels, kind)
    return Record(image_id, f"{image_id}.png", encoded, kind.lower(), height, width, tuple(found))


def write_records(folder, records, shards=1):
    import tensorflow as tf

    from fcis_tf.data.records import encode
    from fcis_tf.labels import Labels

    folder.mkdir(parents=True, exist_ok=True)
    Labels(tuple(NAMES), tuple(NAMES.values())).save(folder / "labels.json")
    for n in range(shards):
        name = str(folder / f"data-{n:05d}-of-{shards:05d}.tfrecord")
        with tf.io.TFRecordWriter(name) as writer:
            for record in records[n::shards]:
                writer.write(encode(record))
    return folder


def read_h5(path):
    """All arrays of an HDF5 file by their path."""
    import h5py

    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(keep)
    return found
