"""Pascal VOC's instance segmentation as a source: SBD's ``.mat`` files, or VOC 2012's PNGs.

Both have two maps of an image's size: one numbers the instances, the other names the class of every
pixel; 0 is background and 255 the unlabelled rim of objects in each.
"""

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fcis_tf.data.records import Instance, Record
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.base import Source, choose, instance_of, read_list, read_picture
from fcis_tf.data.sources.faults import Reporter
from fcis_tf.errors import FcisError
from fcis_tf.files import file_sha256, fingerprint
from fcis_tf.labels import Labels

VOID = 255


class Layout(NamedTuple):
    """Where a data set keeps its files, below its folder."""

    images: str
    instances: str
    classes: str
    lists: str
    suffix: str  # of the maps


SBD = Layout("img", "inst", "cls", ".", ".mat")
VOC = Layout(
    "JPEGImages", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation", ".png"
)


class VocImage(NamedTuple):
    """An image file and its two maps."""

    image_id: str
    path: Path
    instances: Path
    classes: Path


def read_voc(folder: Path, report: Reporter, *, list: str | Path | None = None) -> Source:
    """List SBD's folder ``dataset``, or VOC 2012's.

    Args:
        folder: with ``img``, ``inst`` and ``cls``, or ``JPEGImages``, ``SegmentationObject`` and
            ``SegmentationClass``.
        report: called for listed images without labels.
        list: one of the data set's lists, such as ``train``, or a file with names of images;
            by default all that have labels.

    Raises:
        FcisError: no such folder or list, another layout, or no SciPy to read ``.mat`` files with.
    """
    layout = next((each for each in (SBD, VOC) if (folder / each.instances).is_dir()), None)
    if layout is None:
        raise FcisError(
            f"{folder}: expected SBD's img/, inst/ and cls/, or VOC's JPEGImages/, "
            "SegmentationObject/ and SegmentationClass/ in it, found neither"
        )
    if layout is SBD:
        _require_scipy()
    ids = sorted(path.stem for path in (folder / layout.instances).glob(f"*{layout.suffix}"))
    names = read_list(_list_file(folder / layout.lists, list)) if list else None
    items = [
        VocImage(
            key,
            folder / layout.images / f"{key}.jpg",
            folder / layout.instances / f"{key}{layout.suffix}",
            folder / layout.classes / f"{key}{layout.suffix}",
        )
        # Some of VOC's lists have a second column.
        for key in choose(ids, names and [name.split()[0] for name in names], report)
    ]
    marks = [
        (item.image_id, *(_digest(path) for path in (item.instances, item.classes)))
        for item in items
    ]
    origin = {"kind": "sbd", "name": folder.name, "sha256": fingerprint(marks)}
    return Source(Labels.known(20), items, load_record, origin)


def load_record(item: VocImage, labels: Labels, report: Reporter) -> Record | None:
    """Read the image and cut its maps into instances; None if it is not usable."""
    read = _read_mat if item.instances.suffix == ".mat" else _read_png
    maps = []
    for path, key in ((item.instances, "GTinst"), (item.classes, "GTcls")):
        try:
            maps.append(read(path, key))
        except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError) as fault:
            report(faults.BAD_LABELS, f"{path}: {fault}")
            return None
    instances, classes = maps
    height, width = instances.shape
    if classes.shape != instances.shape:
        report(faults.BAD_LABELS, f"{item.classes}: of another size than the map of instances")
        return None
    picture = read_picture(item.path, item.path.name, report, height=height, width=width)
    if picture is None:
        return None
    found = [
        _instance(
            f"instance {number} of {item.image_id}", instances == number, classes, labels, report
        )
        for number in np.unique(instances)
        if number not in (0, VOID)
    ]
    whole = tuple(instance for instance in found if instance is not None)
    if not whole:
        report(faults.NO_INSTANCES, item.image_id)
    return Record(item.image_id, item.path.name, *picture, whole)


def _instance(
    name: str, inside: np.ndarray, classes: np.ndarray, labels: Labels, report: Reporter
) -> Instance | None:
    # The class of an instance is the most frequent one below it, apart from background and void.
    ids, counts = np.unique(classes[inside], return_counts=True)
    named = (ids != 0) & (ids != VOID)
    ids, counts = ids[named], counts[named]
    if not len(ids) or (category := int(ids[counts.argmax()])) not in labels.ids:
        report(faults.UNKNOWN_CATEGORY, f"{name} with classes {ids.tolist()}")
        return None
    if len(ids) > 1:
        report(faults.MIXED, f"{name} with classes {ids.tolist()}")
    return instance_of(inside.astype(np.uint8), category, labels)


def _read_mat(path: Path, key: str) -> np.ndarray:
    """The map of a MATLAB file: field ``Segmentation`` of the struct `key`."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, variable_names=[key])
    except (MatReadError, NotImplementedError, EOFError, zlib.error) as fault:
        raise ValueError(f"damaged, or of another version ({fault})") from None
    if key not in content:
        raise ValueError(f"no {key} in it")
    return np.asarray(content[key]["Segmentation"][0, 0])


def _read_png(path: Path, key: str) -> np.ndarray:
    """The palette indices of a PNG, which number instances or classes."""
    with Image.open(path) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(f"expected a PNG with a palette, found mode {image.mode}")
        return np.asarray(image)


def _require_scipy() -> None:
    try:
        import scipy.io  # noqa: F401
    except ImportError:
        raise FcisError(
            "SBD's .mat files need SciPy, which is not installed; pip install 'fcis_tf[sbd]'"
        ) from None


def _list_file(folder: Path, name: str | Path) -> Path:
    file = Path(name)
    if file.is_file():
        return file
    known = sorted(path.stem for path in folder.glob("*.txt"))
    if str(name) not in known:
        raise FcisError(f"list {name}: no such file, and no list of {folder}, which has {known}")
    return folder / f"{name}.txt"


def _digest(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None
