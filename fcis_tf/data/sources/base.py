"""A labelled data set as the converter takes it, and what the readers of all formats share."""

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from fcis_tf.data.decode import check_decodable
from fcis_tf.data.images import to_rgb
from fcis_tf.data.records import Instance, Record
from fcis_tf.data.sources import faults
from fcis_tf.data.sources.faults import Reporter
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels

EXIF_ORIENTATION = 0x0112
SWAPPED = (5, 6, 7, 8)  # orientations that exchange height and width


class Item(Protocol):
    """One image of a source, small and picklable."""

    @property
    def path(self) -> Path:
        """The file that holds the image."""
        ...


class Source(NamedTuple):
    """A labelled data set that has been listed; its images have not been read."""

    labels: Labels
    items: Sequence[Any]  # an `Item` for every image
    load: Callable[[Any, Labels, Reporter], Record | None]  # reads one; None if it is not usable
    origin: dict[str, str]  # names the source and has a hash of all its labels


class Picture(NamedTuple):
    """The image of a record."""

    encoded: bytes  # a JPEG or PNG file
    format: str  # "jpeg" or "png"
    height: int
    width: int


def read_picture(
    file: Path | bytes,
    name: str,
    report: Reporter,
    *,
    height: int | None = None,
    width: int | None = None,
    shown: bool = False,
) -> Picture | None:
    """The bytes of an image as a record holds them; None if it is not usable.

    A JPEG or 8-bit PNG stays as it is. If its EXIF entry makes viewers turn it, the size in the
    labels decides whether they are of the turned image; where both have that size, `shown` does.

    Args:
        file: path, or the bytes of an image file.
        name: what the report calls it.
        report: called for everything that is wrong.
        height: as the labels have it, in pixels, if they do.
        width: as the labels have it.
        shown: whether labels of this kind are made on images turned by their EXIF orientation.
    """
    try:
        encoded = file if isinstance(file, bytes) else file.read_bytes()
        with Image.open(io.BytesIO(encoded)) as image:
            # Telephones write several pictures in one JPEG; the first is the photograph.
            kind = "JPEG" if image.format == "MPO" else str(image.format)
            if isinstance(file, Path) and _named(file) not in (None, kind, image.format):
                report(faults.MISNAMED, f"{name}: {kind}")
            found: Image.Image = image
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            if orientation in range(2, 9):
                if _is_turned(image.size, (width, height), orientation, shown):
                    found = ImageOps.exif_transpose(image)
                    report(faults.TURNED, name)
                else:
                    report(faults.STORED, name)
            if kind not in ("JPEG", "PNG") or image.mode not in ("RGB", "L"):
                report(faults.REENCODED, f"{name}, {image.format} {image.mode}")
                found, kind = to_rgb(found), "PNG"
            if found is not image:
                buffer = io.BytesIO()
                found.save(buffer, "PNG")
                encoded, kind = buffer.getvalue(), "PNG"
            columns, rows = found.size
        # Pillow accepts a file without its end; what training could not decode must not get in.
        check_decodable(encoded)
    except FileNotFoundError:
        report(faults.MISSING, str(file))
        return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        report(faults.UNREADABLE, f"{name}: {fault}")
        return None
    except tf.errors.InvalidArgumentError:
        report(faults.UNREADABLE, f"{name}: damaged {kind}")
        return None
    if (width or columns, height or rows) != (columns, rows):
        what = f"{name}: {width}x{height} in the labels, {columns}x{rows}"
        report(faults.OTHER_SIZE, what)
        return None
    return Picture(encoded, kind.lower(), rows, columns)


def _named(path: Path) -> str | None:
    """The image format that a file's name promises."""
    return Image.registered_extensions().get(path.suffix.lower())


def _is_turned(
    stored: tuple[int, int],
    stated: tuple[int | None, int | None],
    orientation: int,
    shown: bool,
) -> bool:
    """Whether labels with the size `stated` are of the image turned by its EXIF orientation."""
    turned = stored[::-1] if orientation in SWAPPED else stored
    # The size decides if only one of the two orientations has it.
    if stored != turned and stated in (stored, turned):
        return stated == turned
    return shown


def tight_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """(y0, x0, y1, x1), half-open, of the non-zero pixels of a mask (H, W) that has some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1)


def instance_of(mask: np.ndarray, category: int, labels: Labels) -> Instance:
    """An instance of which no more is known than its mask (H, W) uint8, which has pixels."""
    name = labels.names[labels.ids.index(category)]
    return Instance(tight_box(mask), category, name, mask, False, float(mask.sum()))


def read_mask(file: Path | bytes) -> np.ndarray:
    """An instance mask (H, W) uint8, 0 or 1: the upper half of the values an image file has.

    Raises:
        OSError, SyntaxError, ValueError: not an image.
    """
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        colours = image.mode not in ("1", "L", "P", "I", "F") and not image.mode.startswith("I;16")
        values = np.asarray(image.convert("L") if colours else image)
    return (values > values.max(initial=0) / 2).astype(np.uint8)


def is_image_name(path: Path) -> bool:
    """Whether a file's name is that of an image, and not a hidden one's."""
    return not path.name.startswith(".") and _named(path) is not None


def image_files(folder: Path) -> list[Path]:
    """The files below a folder that have names of images, sorted."""
    return sorted(p for p in folder.rglob("*") if is_image_name(p) and p.is_file())


def choose(ids: Iterable[str], wanted: Sequence[str] | None, report: Reporter) -> list[str]:
    """The ids of images that a list names, with or without a suffix such as .jpg; None: all.

    Args:
        ids: of all images.
        wanted: names of images, as `read_list` gives them.
        report: called for names that are no image's, and of those that come twice.
    """
    known = dict.fromkeys(ids)
    if wanted is None:
        return list(known)
    chosen: dict[str, None] = {}
    for name in wanted:
        found = name if name in known else name.rpartition(".")[0]
        if found not in known:
            report(faults.NOT_THERE, name)
        elif found in chosen:
            report(faults.DUPLICATE_IMAGE, name)
        else:
            chosen[found] = None
    return list(chosen)


def read_list(file: str | Path | None, of: str = "images") -> list[str] | None:
    """Names, one a line; None if there is no list.

    Args:
        file: text in UTF-8.
        of: what the names are of, for messages.

    Raises:
        FcisError: no such file, not text, or nothing in it.
    """
    if file is None:
        return None
    file = Path(file)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise FcisError(f"{file}: no such list of {of}") from None
    except ValueError:
        raise FcisError(f"{file}: expected a text file with a list of {of}, found none") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise FcisError(f"{file}: expected a list of {of}, one a line, found nothing")
    return names


def read_labels(file: str | Path | None, found: Iterable[str]) -> Labels:
    """The classes of a file, one a line, or of a labels.json; without a file the names found.

    Ids count from 1, in the order of the file or of the alphabet. Lines that begin with an
    underscore, as LabelMe's ``__ignore__`` and ``_background_``, are no classes.

    Raises:
        FcisError: no such file, no class, or one named twice.
    """
    if file is not None and Path(file).suffix == ".json":
        return Labels.load(file)
    names = sorted(set(found)) if file is None else read_list(file, "classes") or []
    names = [name for name in names if not name.startswith("_")]
    if not names:
        raise FcisError(f"{file or 'labels'}: no class is named; nothing to learn")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise FcisError(f"{file}: classes are named twice: {twice}")
    return Labels(tuple(range(1, len(names) + 1)), tuple(names))
