"""The same labelled images in every layout that `fcis convert` reads.

The truth is a COCO data set of `generate_shapes`, whose masks do not overlap.
"""

import base64
import io
import json
import shutil

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask


def truth_of(folder, split="train"):
    """(file name, [(class name, category id, mask)]) of every image of a generated data set."""
    content = json.loads((folder / f"{split}.json").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    images = {i["id"]: (i["file_name"], []) for i in content["images"]}
    for row in content["annotations"]:
        mask = coco_mask.decode(row["segmentation"])
        images[row["image_id"]][1].append((names[row["category_id"]], row["category_id"], mask))
    return list(images.values())


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def outlines(mask):
    """Polygons [[x, y], ...] along the edges of pixels that together cover a mask.

    Runs of pixels in adjacent rows that touch are stacked as long as no run forks.
    """
    stacks, open_stacks = [], []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.r_[0, row, 0])).reshape(-1, 2)
        still_open = []
        for x0, x1 in edges.tolist():
            above = [s for s in open_stacks if s[-1][1] < x1 and x0 < s[-1][2]]
            if above:
                open_stacks.remove(above[0])
                stack = above[0]
            else:
                stack = []
                stacks.append(stack)
            stack.append((y, x0, x1))
            still_open.append(stack)
        open_stacks = still_open
    polygons = []
    for stack in stacks:
        left = [[x, yy] for y, x, _ in stack for yy in (y, y + 1)]
        right = [[x, yy] for y, _, x in reversed(stack) for yy in (y + 1, y)]
        polygons.append(left + right)
    return polygons


def labelme_shape(label, points, kind="polygon", **more):
    base = {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
    return base | more


def labelme_json(shapes, image_path, size, **more):
    height, width = size
    base = {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image_path,
        "imageData": None, "imageHeight": height, "imageWidth": width,
    }  # fmt: skip
    return base | more


def write_labelme(shapes_folder, out, *, bitmaps=False, split="train"):
    """LabelMe files of polygons; or of bitmaps, with the image in the json."""
    out.mkdir(parents=True)
    for file_name, instances in truth_of(shapes_folder, split):
        rows = []
        for number, (name, _, mask) in enumerate(instances):
            if bitmaps:
                ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                part = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] * 255
                corners = [[float(xs[0]), float(ys[0])], [float(xs[-1]), float(ys[-1])]]
                text = base64.b64encode(png(part)).decode()
                rows.append(labelme_shape(name, corners, "mask", mask=text))
            else:
                parts = outlines(mask)
                group = None if len(parts) == 1 else number
                rows += [labelme_shape(name, part, group_id=group) for part in parts]
        content = labelme_json(rows, file_name, mask.shape)
        image = shapes_folder / split / file_name
        if bitmaps:
            content["imageData"] = base64.b64encode(image.read_bytes()).decode()
        else:
            shutil.copy(image, out)
        (out / file_name).with_suffix(".json").write_text(json.dumps(content))
    return out


def write_masks(shapes_folder, out, layout):
    """``number``: masks/NAME/CLASS_1.png; ``folder``: masks/NAME/CLASS/1.png; ``bowl``."""
    for file_name, instances in truth_of(shapes_folder):
        stem = file_name.removesuffix(".jpg")
        images = out / stem / "images" if layout == "bowl" else out / "images"
        masks = out / stem / "masks" if layout == "bowl" else out / "masks" / stem
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True)
        shutil.copy(shapes_folder / "train" / file_name, images)
        for number, (name, _, mask) in enumerate(instances):
            file = {"number": f"{name}_{number}", "folder": f"{name}/{number}", "bowl": f"{number}"}
            path = masks / f"{file[layout]}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(png(mask if layout == "folder" else mask * 255))
    return out


def maps_of(instances):
    """Maps of instance numbers and of category ids, which are also ids of VOC."""
    numbers = np.zeros(instances[0][2].shape, np.uint8)
    classes = np.zeros_like(numbers)
    for number, (_, category, mask) in enumerate(instances, start=1):
        numbers[mask > 0] = number
        classes[mask > 0] = category
    return numbers, classes


def write_sbd(shapes_folder, out):
    from scipy.io import savemat

    for name in ("img", "inst", "cls"):
        (out / name).mkdir(parents=True)
    stems = []
    for file_name, instances in truth_of(shapes_folder):
        stems.append(file_name.removesuffix(".jpg"))
        shutil.copy(shapes_folder / "train" / file_name, out / "img")
        numbers, classes = maps_of(instances)
        for folder, key, values in (("inst", "GTinst", numbers), ("cls", "GTcls", classes)):
            struct = {key: {"Segmentation": values, "Boundaries": np.zeros(3)}}
            savemat(out / folder / f"{stems[-1]}.mat", struct, do_compression=True)
    (out / "train.txt").write_text("".join(f"{stem}\n" for stem in stems[:3]))
    (out / "val.txt").write_text("".join(f"{stem}\n" for stem in stems[3:]))
    return out


def write_voc(shapes_folder, out):
    lists = out / "ImageSets" / "Segmentation"
    folders = ("JPEGImages", "SegmentationObject", "SegmentationClass")
    for name in (*folders, lists):
        (out / name).mkdir(parents=True)
    stems = []
    for file_name, instances in truth_of(shapes_folder):
        stems.append(file_name.removesuffix(".jpg"))
        shutil.copy(shapes_folder / "train" / file_name, out / "JPEGImages")
        rim = np.zeros(instances[0][2].shape, bool)
        rim[:, :1] = True  # the left edge is unlabelled, as the outlines of VOC are
        for folder, values in zip(folders[1:], maps_of(instances), strict=True):
            image = Image.fromarray(np.where(rim, 255, values).astype(np.uint8), "P")
            image.putpalette([v for n in range(256) for v in (n * 37 % 256, n * 91 % 256, n)])
            image.save(out / folder / f"{stems[-1]}.png")
    (lists / "train.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return out
