"""A folder of LabelMe's json files as a source.

Coordinates are pixels of the image as LabelMe shows it, turned by its EXIF orientation, with (0, 0)
at the corner of the first pixel. Shapes of one label and ``group_id`` are parts of one instance.
"""

import base64
import json
import math
import os
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fcis_tf.data.records import Instance, Record
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
from fcis_tf.data.sources.segmentation import FARTHEST, rasterise
from fcis_tf.errors import FcisError
from fcis_tf.files import file_sha256, fingerprint
from fcis_tf.labels import Labels

# LabelMe's own widths for shapes that have no area.
LINE_WIDTH = 10
POINT_RADIUS = 5

Points = list[tuple[float, float]]  # x, y


class LabelMeImage(NamedTuple):
    """One json file, and where its image is."""

    image_id: str  # path of the json below the folder, without its suffix
    json: Path
    path: Path  # of the image; the json's own if it holds the image
    classes: frozenset[str]


def read_labelme(
    folder: Path,
    report: Reporter,
    *,
    labels: str | Path | None = None,
    list: str | Path | None = None,
) -> Source:
    """List a folder of LabelMe's json files and their images, with all folders below it.

    Args:
        folder: of json files; an image is where its json states, or beside it.
        report: called for files that are not used.
        labels: file with the names of the classes; by default all names in the folder are.
        list: file with the names of the images to use.

    Raises:
        FcisError: no such folder, or nothing of LabelMe's in it.
    """
    if not folder.is_dir():
        raise FcisError(f"{folder}: no such folder of LabelMe files")
    found: dict[str, LabelMeImage] = {}
    digests: dict[str, str] = {}
    owners: dict[Path, str] = {}
    for file in sorted(folder.rglob("*.json")):
        content = _load(file, report)
        if content is None:
            continue
        embedded = content.get("imageData") is not None
        image = _image_path(file, content["imagePath"])
        path = file if embedded else image
        if path in owners:
            report(faults.DUPLICATE_IMAGE, f"{path}, in {file.name} and {owners[path]}")
            continue
        # Also an image file beside a json that embeds it has labels.
        owners[path] = owners[image] = file.name
        classes = {s.get("label") for s in content["shapes"] if isinstance(s, dict)}
        key = file.relative_to(folder).with_suffix("").as_posix()
        names = frozenset(name for name in classes if isinstance(name, str))
        found[key] = LabelMeImage(key, file, path, names)
        digests[key] = file_sha256(file)
    if not found:
        raise FcisError(f"{folder}: no json file of LabelMe in it; nothing to convert")
    known = read_labels(labels, (name for item in found.values() for name in item.classes))
    if list is None:
        for path in image_files(folder):
            if path not in owners:
                report(faults.UNLABELLED, str(path.relative_to(folder)))
    chosen = choose(found, read_list(list), report)
    marks = [(key, digests[key]) for key in chosen]
    sha256 = fingerprint(known.names, marks)
    origin = {"kind": "labelme", "name": folder.name, "sha256": sha256}
    return Source(known, [found[key] for key in chosen], load_record, origin)


def load_record(item: LabelMeImage, labels: Labels, report: Reporter) -> Record | None:
    """Read the image and draw the shapes; None if the image is not usable."""
    content = _load(item.json, report)
    if content is None:
        return None
    file: Path | bytes = item.path
    name = item.path.name
    if content.get("imageData") is not None:
        name = f"{item.json.name}, imageData"
        try:
            file = base64.b64decode(content["imageData"], validate=True)
        except (ValueError, TypeError) as fault:
            report(faults.UNREADABLE, f"{name}: {fault}")
            return None
    picture = read_picture(
        file,
        name,
        report,
        height=_number(content.get("imageHeight")),
        width=_number(content.get("imageWidth")),
        shown=True,
    )
    if picture is None:
        return None
    instances = _instances(item, content["shapes"], picture.height, picture.width, labels, report)
    if not instances:
        report(faults.NO_INSTANCES, item.json.name)
    filename = PureWindowsPath(content["imagePath"]).name
    return Record(item.image_id, filename, *picture, tuple(instances))


def _instances(
    item: LabelMeImage, shapes: list[Any], height: int, width: int, labels: Labels, report: Reporter
) -> list[Instance]:
    ids = dict(zip(labels.names, labels.ids, strict=True))
    masks: dict[tuple[str, Any], np.ndarray] = {}
    names: dict[tuple[str, Any], str] = {}
    for number, shape in enumerate(shapes, start=1):
        label = shape.get("label") if isinstance(shape, dict) else None
        name = f"shape {number} ({label}) of {item.json.name}"
        if isinstance(label, str) and label not in ids and label.startswith("_"):
            report(faults.IGNORED, name)
            continue
        if not isinstance(label, str) or label not in ids:
            report(faults.UNKNOWN_CATEGORY, name)
            continue
        mask = _draw(shape, height, width, name, report)
        if mask is None:
            report(faults.BAD_MASK, f"{name}, {shape.get('shape_type')}")
            continue
        # Shapes without a group are instances of their own.
        group = shape.get("group_id")
        key = (label, f"shape {number}" if group is None else f"group {group}")
        names.setdefault(key, name)
        masks[key] = mask | masks[key] if key in masks else mask
    found = []
    for key, mask in masks.items():
        if mask.any():
            found.append(instance_of(mask, ids[key[0]], labels))
        else:
            report(faults.EMPTY_MASK, names[key])
    return found


def _draw(
    shape: dict[str, Any], height: int, width: int, name: str, report: Reporter
) -> np.ndarray | None:
    """A (height, width) uint8 mask of one shape; None if it is malformed."""
    kind = shape.get("shape_type") or "polygon"
    try:
        points: Points = [(float(x), float(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    limit = FARTHEST * max(height, width)
    if not points or not all(abs(v) <= limit for point in points for v in point):  # NaN fails too
        return None
    if kind == "mask":
        return _place(shape.get("mask"), points[0], height, width)
    if kind in ("line", "linestrip", "point"):
        if len(points) != 1 if kind == "point" else len(points) < 2:
            return None
        report(faults.DRAWN, name)
        return _draw_thin(points, height, width)
    if kind == "circle" and len(points) == 2:
        points = _circle(*points)
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    elif kind not in ("polygon", "rectangle", "oriented_rectangle"):
        return None
    if any(not (-0.01 <= x <= width + 0.01 and -0.01 <= y <= height + 0.01) for x, y in points):
        report(faults.CLIPPED, name)
    return rasterise([[v for point in points for v in point]], height, width)


def _circle(center: tuple[float, float], rim: tuple[float, float]) -> Points:
    """Points on a circle, so close that no chord is 0.05 pixels off it."""
    radius = math.dist(center, rim)
    count = max(16, math.ceil(math.pi * math.sqrt(radius / 0.1)))
    angles = [2 * math.pi * n / count for n in range(count)]
    return [(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles]


def _draw_thin(points: Points, height: int, width: int) -> np.ndarray:
    """A (height, width) uint8 mask of a point or of a line through several."""
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    if len(points) == 1:
        x, y = points[0]
        around = (x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS)
        draw.ellipse(around, fill=1)
    else:
        draw.line(points, fill=1, width=LINE_WIDTH, joint="curve")
    return np.array(canvas)


def _place(text: Any, corner: tuple[float, float], height: int, width: int) -> np.ndarray | None:
    """A mask (height, width) from the PNG of a part of it, whose first pixel is at `corner`."""
    try:
        part = read_mask(base64.b64decode(text, validate=True))
    except (OSError, SyntaxError, ValueError, TypeError):
        return None
    x, y = round(corner[0]), round(corner[1])
    # The overlap of the part and the image, in pixels of the image.
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + part.shape[0], height), min(x + part.shape[1], width)
    mask = np.zeros((height, width), np.uint8)
    if y0 < y1 and x0 < x1:
        mask[y0:y1, x0:x1] = part[y0 - y : y1 - y, x0 - x : x1 - x]
    return mask


def _image_path(file: Path, stated: str) -> Path:
    """The image of a json file: where that states, or beside it, as after moving the folder."""
    path = Path(os.path.normpath(file.parent / PureWindowsPath(stated).as_posix()))
    beside = file.parent / path.name
    return beside if beside.is_file() and not path.is_file() else path


def _load(file: Path, report: Reporter) -> dict[str, Any] | None:
    """The content of a json file; None if it is not LabelMe's."""
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError) as fault:
        report(faults.BAD_LABELS, f"{file}: {fault}")
        return None
    has_shapes = isinstance(content, dict) and isinstance(content.get("shapes"), list)
    if not has_shapes or not isinstance(content.get("imagePath"), str):
        report(faults.BAD_LABELS, f"{file}: no LabelMe file, it lacks 'shapes' or 'imagePath'")
        return None
    return content


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None
