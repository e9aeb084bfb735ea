"""Splits labelled images into some to train with and some to hold out for validation."""

import json
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcis_tf.data.sources.base import Source
from fcis_tf.data.sources.coco import is_id, load_json
from fcis_tf.errors import FcisError
from fcis_tf.files import write_whole


class Split(NamedTuple):
    """Ids of images for training and of those held out, and in how many of each a class is."""

    train: list[str]
    validation: list[str]
    counts: dict[str, tuple[int, int]]  # by name of the class

    def __str__(self) -> str:
        width = max(map(len, ["images", *self.counts]))
        rows = [("", "train", "val"), ("images", len(self.train), len(self.validation))]
        rows += [(name, *pair) for name, pair in sorted(self.counts.items())]
        return "\n".join(f"{name:{width}} {a:>7} {b:>7}" for name, a, b in rows)


def draw_split(classes: Mapping[str, Set[str]], *, validation: float, seed: int) -> Split:
    """Images are grouped by the rarest class in them, and of every group a part is held out.

    Groups are shuffled and put in a row, of which every k-th image is taken; so a group has its
    share of images held out to within one.

    Args:
        classes: the names of the classes in each image, by its id.
        validation: part of the images to hold out, between 0 and 1.
        seed: the same seed and images give the same split.

    Raises:
        FcisError: one side would have no image.
    """
    # Number the classes from the rarest to the most frequent.
    images_with = Counter(name for names in classes.values() for name in names)
    rarest_first = sorted(images_with, key=lambda name: (images_with[name], name))
    rank = {name: n for n, name in enumerate(rarest_first)}
    ids = sorted(classes)
    shuffled = [ids[n] for n in np.random.default_rng(seed).permutation(len(ids))]
    # Sorting is stable, so the images of one group stay shuffled.
    row = sorted(shuffled, key=lambda i: min((rank[c] for c in classes[i]), default=len(rank)))
    # Image n is held out where the rounded sum of the shares up to it increases.
    steps = np.floor(np.arange(len(row) + 1) * validation + 0.5)
    held = {image for image, step in zip(row, np.diff(steps), strict=True) if step}
    if not 0 < len(held) < len(ids):
        raise FcisError(
            f"split: to hold out {validation:g} of {len(ids)} images leaves {len(ids) - len(held)} "
            f"for training and {len(held)} for validation; each needs at least one"
        )
    sides = [i for i in classes if i not in held], [i for i in classes if i in held]
    there = [Counter(name for i in side for name in classes[i]) for side in sides]
    return Split(*sides, {name: (there[0][name], there[1][name]) for name in images_with})


def split_coco(annotations: str | Path, out: str | Path, *, validation: float, seed: int) -> Split:
    """Write ``train.json`` and ``val.json``, with every other entry of the json in both.

    Entries of one image file stay together. An annotation of an unknown image goes to
    ``train.json``, so that its conversion reports it.

    Args:
        annotations: COCO instances json.
        out: folder to write to.
        validation: see `draw_split`.
        seed: see `draw_split`.

    Raises:
        FcisError: no COCO json, no two images, or `out` holds another split.
    """
    content = load_json(Path(annotations))
    names = {row["id"]: str(row["name"]) for row in content["categories"] if is_id(row["id"])}
    files = {image["id"]: str(image["file_name"]) for image in content["images"]}

    def file_of(row: dict[str, Any]) -> str | None:
        return files.get(row["image_id"]) if is_id(row.get("image_id")) else None

    classes: dict[str, set[str]] = {file: set() for file in files.values()}
    for row in content["annotations"]:
        file, category = file_of(row), row.get("category_id")
        if file is not None and is_id(category) and category in names:
            classes[file].add(names[category])
    drawn = draw_split(classes, validation=validation, seed=seed)
    held = set(drawn.validation)
    texts = {}
    for split, wanted in (("train", False), ("val", True)):
        part = {
            "images": [i for i in content["images"] if (str(i["file_name"]) in held) == wanted],
            "annotations": [a for a in content["annotations"] if (file_of(a) in held) == wanted],
        }
        texts[f"{split}.json"] = json.dumps(content | part)
    _write(Path(out), texts)
    return drawn


def split_source(source: Source, out: str | Path, *, validation: float, seed: int) -> Split:
    """Write ``train.txt`` and ``val.txt``, with the name of an image on each line.

    Args:
        source: its items have ``image_id`` and ``classes``.
        out: folder to write to.
        validation: see `draw_split`.
        seed: see `draw_split`.

    Raises:
        FcisError: no two images, or `out` holds another split.
    """
    classes = {item.image_id: item.classes for item in source.items}
    drawn = draw_split(classes, validation=validation, seed=seed)
    lists = {"train.txt": drawn.train, "val.txt": drawn.validation}
    _write(Path(out), {name: "".join(f"{i}\n" for i in ids) for name, ids in lists.items()})
    return drawn


def _write(out: Path, texts: dict[str, str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        if (out / name).exists() and (out / name).read_text(encoding="utf-8") != text:
            raise FcisError(
                f"{out / name}: is of another split, which a new one would mix with; delete it or "
                "choose another folder"
            )
    for name, text in texts.items():
        write_whole(out / name, text)
