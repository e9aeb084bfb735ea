"""Folders with one mask file for every instance as a source. Two layouts are read:

* ``images/NAME.jpg`` with ``masks/NAME/CLASS_1.png`` or ``masks/NAME/CLASS/1.png``;
* ``NAME/images/NAME.png`` with ``NAME/masks/*.png``, as in the 2018 Data Science Bowl.

Where all instances are of one class, the mask files may have any names.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcis_tf.data.records import Record
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.base import (
    Source,
    choose,
    image_files,
    instance_of,
    read_labels,
    read_list,
    read_mask,
    read_picture,
)
from fcis_tf.data.sources.faults import Reporter
from fcis_tf.errors import FcisError
from fcis_tf.files import file_sha256, fingerprint
from fcis_tf.labels import Labels


class MaskedImage(NamedTuple):
    """One image file and the mask files of its instances."""

    image_id: str
    path: Path
    masks: tuple[tuple[Path, str], ...]  # with the name of the class

    @property
    def classes(self) -> frozenset[str]:
        return frozenset(name for _, name in self.masks)


def read_masks(
    folder: Path,
    report: Reporter,
    *,
    single_class: str | None = None,
    labels: str | Path | None = None,
    list: str | Path | None = None,
) -> Source:
    """List a folder of images and masks. An image without a folder of masks is left out.

    Args:
        folder: of one of the layouts above.
        report: called for files that are not used.
        single_class: the class of all instances; by default the file names state it.
        labels: file with the names of the classes; by default all names in the folder are.
        list: file with the names of the images to use.

    Raises:
        FcisError: no such folder, another layout, or a mask without a class.
    """
    found: dict[str, MaskedImage] = {}
    for key, path, masks in _pairs(folder, report):
        if key in found:
            report(faults.DUPLICATE_IMAGE, f"{path.name} and {found[key].path.name}")
        elif not masks.is_dir():
            report(faults.UNLABELLED, path.name)
        else:
            files = [(m, single_class or _class_of(m, masks)) for m in image_files(masks)]
            found[key] = MaskedImage(key, path, tuple(files))
    if not found:
        raise FcisError(f"{folder}: no image in it has a folder of masks; nothing to convert")
    known = read_labels(labels, {name for item in found.values() for name in item.classes})
    items = [found[key] for key in choose(found, read_list(list), report)]
    marks = [
        (item.image_id, [(path.name, name, file_sha256(path)) for path, name in item.masks])
        for item in items
    ]
    sha256 = fingerprint(known.names, marks)
    return Source(
        known, items, load_record, {"kind": "masks", "name": folder.name, "sha256": sha256}
    )


def load_record(item: MaskedImage, labels: Labels, report: Reporter) -> Record | None:
    """Read the image and its masks; None if the image is not usable."""
    # If masks differ in size, the labels' size is that of most of them.
    masks = [(path, label, _read(path, item, report)) for path, label in item.masks]
    sizes = Counter(mask.shape for _, _, mask in masks if mask is not None)
    height, width = sizes.most_common(1)[0][0] if sizes else (None, None)
    picture = read_picture(item.path, item.path.name, report, height=height, width=width)
    if picture is None:
        return None
    instances = []
    for path, label, mask in masks:
        name = f"mask {path.name} of {item.image_id}"
        if mask is None:
            continue
        if label not in labels.names:
            report(faults.UNKNOWN_CATEGORY, f"{name} with class {label}")
        elif mask.shape != (picture.height, picture.width):
            what = f"{mask.shape[1]}x{mask.shape[0]}, image {picture.width}x{picture.height}"
            report(faults.BAD_MASK, f"{name}: {what}")
        elif not mask.any():
            report(faults.EMPTY_MASK, name)
        else:
            category = labels.ids[labels.names.index(label)]
            instances.append(instance_of(mask, category, labels))
    if not instances:
        report(faults.NO_INSTANCES, item.image_id)
    return Record(item.image_id, item.path.name, *picture, tuple(instances))


def _read(path: Path, item: MaskedImage, report: Reporter) -> np.ndarray | None:
    try:
        return read_mask(path)
    except (OSError, SyntaxError, ValueError) as fault:
        report(faults.BAD_MASK, f"mask {path.name} of {item.image_id}: {fault}")
        return None


def _pairs(folder: Path, report: Reporter) -> Iterator[tuple[str, Path, Path]]:
    """Id, image file and folder of masks of every image."""
    if not folder.is_dir():
        raise FcisError(f"{folder}: no such folder of images and masks")
    images, masks = folder / "images", folder / "masks"
    if images.is_dir() and masks.is_dir():
        known = set()
        for path in image_files(images):
            key = path.relative_to(images).with_suffix("").as_posix()
            known.add(key)
            yield key, path, masks / key
        # Masks without an image, in any folder below.
        for found in sorted({path.parent for path in image_files(masks)}):
            below = found.relative_to(masks)
            if known.isdisjoint(path.as_posix() for path in (below, *below.parents)):
                report(faults.MISSING, f"image of {found}")
        return
    inner = sorted({path.parent for n in ("images", "masks") for path in folder.glob(f"*/{n}")})
    if not inner:
        raise FcisError(
            f"{folder}: expected images/ and masks/ in it, or NAME/images/ and NAME/masks/ for "
            "every image, found neither"
        )
    for each in inner:
        files = image_files(each / "images")
        if len(files) == 1:
            yield each.name, files[0], each / "masks"
        else:
            report(faults.BAD_LABELS, f"{each}/images: {len(files)} images, expected one")


def _class_of(path: Path, masks: Path) -> str:
    inner = path.relative_to(masks).parent.as_posix()
    name = path.stem.rpartition("_")[0] if inner == "." else inner
    if not name:
        raise FcisError(
            f"{path}: expected CLASS_NUMBER{path.suffix}, or a folder CLASS around it, found no "
            "class; if all instances are of one, name it with --class"
        )
    return name
