"""Ground truth and detections of every kind: right, shifted, wrong in class, doubled, invented."""

import numpy as np

from fcis_tf.cutouts import CutOut
from fcis_tf.evaluation import coco
from fcis_tf.instances import Instances
from fcis_tf.labels import Labels
from tests import fixtures

LABELS = Labels((3, 7, 9, 11), ("disc", "block", "other", "absent"))


def rows(image_id, masks, category_ids, scores, labels=LABELS):
    """COCO results of masks with tight boxes."""
    height, width = masks[0].shape
    return Instances(
        height,
        width,
        np.array([fixtures.tight_box(mask) for mask in masks]),
        np.array([1 + labels.ids.index(i) for i in category_ids]),
        np.array(scores),
        tuple(CutOut(0, 0, np.asarray(mask, bool)) for mask in masks),
        labels,
    ).to_coco(image_id)


def noisy(records, rng, noise=6, wrong=0.2, copies=2):
    """Copies of every instance, moved, and some in another class."""
    found = []
    for record in records:
        for instance in record.instances:
            for _ in range(copies):
                mask = np.roll(instance.mask, rng.integers(-noise, noise + 1, 2), (0, 1))
                category = instance.category_id
                if rng.uniform() < wrong:
                    category = int(rng.choice(LABELS.ids[:3]))
                found += rows(int(record.image_id), [mask], [category], rng.uniform(size=1))
    return found


def square(y, x, side=10, size=(60, 80)):
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def truth_of(*images, labels=LABELS):
    """A data set of images 1, 2, ... from lists of (mask, category id[, crowd])."""
    listed, annotations = [], []
    for number, content in enumerate(images, start=1):
        listed.append({"id": number, "file_name": f"{number}.png", "height": 60, "width": 80})
        for mask, category, *crowd in content:
            y0, x0, y1, x1 = fixtures.tight_box(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(mask.sum()),
                    "iscrowd": int(bool(crowd and crowd[0])),
                    "segmentation": coco.encode_mask(mask),
                }
            )
    categories = [{"id": i, "name": n} for i, n in zip(labels.ids, labels.names, strict=True)]
    return {"info": {}, "images": listed, "annotations": annotations, "categories": categories}
