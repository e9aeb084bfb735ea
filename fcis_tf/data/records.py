"""The TFRecord schema, both ways. Keys and meanings are those of TensorFlow's Model Garden.

Boxes are normalised there and in pixels here; class labels are the data set's raw category ids;
an instance mask is a PNG of the whole image with values 0 and 1.
"""

import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from fcis_tf.data.mask_png import encode_mask
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels

SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.tfrecord$")
BOX_KEYS = tuple(f"image/object/bbox/{edge}" for edge in ("ymin", "xmin", "ymax", "xmax"))

FLOAT_KEYS = (*BOX_KEYS, "image/object/area")
INT_KEYS = ("image/height", "image/width", "image/object/class/label", "image/object/is_crowd")


class Instance(NamedTuple):
    """One annotated object, in pixels of the original image."""

    box: tuple[float, float, float, float]  # y0, x0, y1, x1, half-open
    category_id: int
    name: str
    mask: np.ndarray  # (H, W) uint8, 0 or 1
    crowd: bool
    area: float


class Record(NamedTuple):
    """One image file and what is in it."""

    image_id: str
    filename: str
    encoded: bytes  # the JPEG or PNG file
    format: str  # "jpeg" or "png"
    height: int
    width: int
    instances: tuple[Instance, ...]


def encode(record: Record) -> bytes:
    """A serialised tf.train.Example."""
    found = record.instances
    size = np.array([record.height, record.width] * 2, np.float64)
    boxes = np.array([i.box for i in found], np.float64).reshape(-1, 4) / size
    # Keys of Model Garden's converter; height, width and boxes of the image as it is stored.
    features: dict[str, list[Any]] = {
        "image/encoded": [record.encoded],
        "image/format": [record.format.encode()],
        "image/height": [record.height],
        "image/width": [record.width],
        "image/filename": [record.filename.encode()],
        "image/source_id": [record.image_id.encode()],
        "image/object/class/label": [i.category_id for i in found],
        "image/object/class/text": [i.name.encode() for i in found],
        "image/object/is_crowd": [int(i.crowd) for i in found],
        "image/object/area": [float(i.area) for i in found],
        "image/object/mask": [encode_mask(i.mask) for i in found],
    }
    features |= {key: boxes[:, n].tolist() for n, key in enumerate(BOX_KEYS)}
    example = tf.train.Example()
    for key in sorted(features):
        kind = (
            "float_list" if key in FLOAT_KEYS else "int64_list" if key in INT_KEYS else "bytes_list"
        )
        getattr(example.features.feature[key], kind).value.extend(features[key])
    return example.SerializeToString(deterministic=True)


def decode(serialized: bytes, source: str = "record") -> Record:
    """The inverse of `encode`, for everything that is not training.

    Args:
        serialized: a tf.train.Example.
        source: name of the record in error messages.

    Raises:
        FcisError: not an Example, or one of another schema.
    """
    example = tf.train.Example()
    try:
        example.ParseFromString(serialized)
    except Exception as fault:  # protobuf's DecodeError has no public home in all versions
        raise FcisError(f"{source}: not a tf.train.Example ({fault})") from None
    features = example.features.feature

    def values(key: str, kind: str) -> list[Any]:
        return list(getattr(features[key], kind).value) if key in features else []

    if not values("image/encoded", "bytes_list"):
        raise FcisError(_wrong_schema(source, "image/encoded", features))
    encoded = values("image/encoded", "bytes_list")[0]
    # The size is the file's own: other writers leave out image/height or set it to -1.
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
            kind = (image.format or "").lower()
    except OSError as fault:
        raise FcisError(f"{source}: image/encoded is no image ({fault}); convert again") from None
    labels = values("image/object/class/label", "int64_list")
    count = len(labels)

    def column(key: str, kind: str, absent: list[Any] | None = None) -> list[Any]:
        found = values(key, kind)
        if not found and count:
            if absent is None:
                raise FcisError(_wrong_schema(source, key, features))
            return absent
        if len(found) != count:
            raise FcisError(
                f"{source}: {key} has {len(found)} entries, expected {count}, one for every "
                "image/object/class/label; convert again"
            )
        return found

    sides = [column(key, "float_list") for key in BOX_KEYS]
    boxes = np.array(sides, np.float64).T.reshape(-1, 4) * [height, width, height, width]
    masks = [
        _decode_mask(encoded_mask, (height, width), source)
        for encoded_mask in column("image/object/mask", "bytes_list")
    ]
    texts = column("image/object/class/text", "bytes_list", [b""] * count)
    crowds = column("image/object/is_crowd", "int64_list", [0] * count)
    areas = column("image/object/area", "float_list", [float(mask.sum()) for mask in masks])
    instances = [
        Instance(tuple(box), label, text.decode(), mask, bool(crowd), area)
        for box, label, text, mask, crowd, area in zip(
            boxes.tolist(), labels, texts, masks, crowds, areas, strict=True
        )
    ]
    source_id = values("image/source_id", "bytes_list") or [b""]
    filename = values("image/filename", "bytes_list") or [b""]
    return Record(
        source_id[0].decode(), filename[0].decode(), encoded, kind, height, width, tuple(instances)
    )


def record_files(folder: str | Path) -> list[Path]:
    """The record files of a folder, sorted; or the one file named.

    Raises:
        FcisError: nothing there, or shards of a set are missing.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    files = sorted(folder.glob("*.tfrecord"))
    if not files:
        raise FcisError(f"{folder}: no *.tfrecord files; `fcis convert` makes them")
    for file in files:
        match = SHARD.fullmatch(file.name)
        if match:
            prefix, total = match[1], int(match[3])
            have = len(list(folder.glob(f"{prefix}-?????-of-{match[3]}.tfrecord")))
            if have != total:
                raise FcisError(
                    f"{folder}: {have} of {total} shards of {prefix!r} are there; run the same "
                    "`fcis convert` again, it makes the others"
                )
    return files


def load_labels(folder: str | Path) -> Labels:
    """The label file beside the records; `folder` may also be one record file.

    Raises:
        FcisError: there is none.
    """
    folder = Path(folder)
    file = (folder.parent if folder.is_file() else folder) / "labels.json"
    if not file.exists():
        raise FcisError(
            f"{file}: no such file; set data.labels to a list of classes or a COCO json"
        )
    return Labels.load(file)


def read_serialized(folder: str | Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every record in order; a damaged file is an FcisError."""
    for file in record_files(folder):
        iterator = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        number = 0
        while True:
            try:
                serialized = next(iterator)
            except StopIteration:
                break
            except tf.errors.DataLossError:
                raise FcisError(f"{file}: damaged after record {number}; convert again") from None
            yield f"{file}, record {number}", serialized
            number += 1


def read_records(folder: str | Path) -> Iterator[Record]:
    """Every record of a folder, in order."""
    for name, serialized in read_serialized(folder):
        yield decode(serialized, name)


def read_image_files(folder: str | Path, places: Collection[int]) -> dict[int, bytes]:
    """The image files of the records at some places, without their annotations."""
    found: dict[int, bytes] = {}
    for place, (_, serialized) in enumerate(read_serialized(folder)):
        if place in places:
            example = tf.train.Example.FromString(serialized)
            found[place] = example.features.feature["image/encoded"].bytes_list.value[0]
        if len(found) == len(places):
            break
    return found


def _decode_mask(encoded: bytes, size: tuple[int, int], source: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            mask = np.asarray(image.convert("L"))
    except (OSError, SyntaxError) as fault:
        raise FcisError(f"{source}: image/object/mask is no PNG ({fault}); convert again") from None
    if mask.shape != size:
        raise FcisError(
            f"{source}: expected an image/object/mask of the image's size {size}, "
            f"found {mask.shape}; convert again"
        )
    return (mask > 0).astype(np.uint8)


def _wrong_schema(source: str, key: str, features: Any) -> str:
    return (
        f"{source}: expected the key {key!r}, found {sorted(features)[:4]}...; "
        "make the records with `fcis convert` or Model Garden's converter with masks"
    )
