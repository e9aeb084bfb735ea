"""What the stages of the golden arrays share: seeds, random input, the tiny network."""

from pathlib import Path

import numpy as np

from tests.golden import reference as ref

HERE = Path(__file__).parents[1]
UNITS = (1, 2, 2, 3)
WIDTHS = (4, 8, 16, 16)  # inner widths of stages 2 to 5
K, P, CLASSES = 3, 9, 5  # of the tiny network, background included
TINY = dict(
    units=UNITS,
    k=K,
    p=P,
    classes=CLASSES,
    cell=ref.cell_anchors((1, 2, 4)),
    rpn_batch=4096,  # nothing is left to chance
    roi_batch=16,
    proposals=dict(pre_nms=200, count=30, threshold=0.7, min_size=2),
)


def save(stage, **arrays):
    """Floats in single precision, unless they have to be exact."""

    def small(value):
        value = np.asarray(value)
        return value.astype(np.float32) if value.dtype == np.float64 else value

    path = HERE / f"{stage}.npz"
    np.savez_compressed(path, **{name: small(value) for name, value in arrays.items()})
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB; margins {rounded(ref.margins)}")


def rounded(margins):
    return {kind: float(f"{value:.1e}") for kind, value in sorted(margins.items())}


def is_safe():
    """Whether no decision of the reference sat on its edge."""
    least = {"vote": 1e-6, "mask target": 1e-6, "order of scores": 1e-5}
    least |= {"cut of proposals": 1e-5, "hard example": 3e-4}
    return all(value > least.get(kind, 1e-4) for kind, value in ref.margins.items())


def first_safe_seed(attempt, tries=400):
    """The result of the first seed for which `attempt(rng)` meets no decision on its edge."""
    for seed in range(tries):
        ref.margins.clear()
        try:
            result = attempt(np.random.default_rng(seed))
        except RuntimeError:
            continue
        if is_safe():
            return {"seed": seed, **result}
    raise SystemExit(f"no seed below {tries} is safe; the last had {rounded(ref.margins)}")


def random_rois(rng, count, width, height, least=10):
    x1, y1 = rng.uniform(0, width - least - 1, count), rng.uniform(0, height - least - 1, count)
    x2 = x1 + rng.uniform(least, width, count)
    y2 = y1 + rng.uniform(least, height, count)
    return np.stack([x1, y1, np.minimum(x2, width - 1), np.minimum(y2, height - 1)], 1)


def blobs(rng, boxes, height, width):
    """Filled ellipses with a bite, tight in integer boxes."""
    masks = []
    y, x = np.mgrid[:height, :width]
    for x1, y1, x2, y2 in boxes:
        cx, cy, rx, ry = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2
        mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
        bite = ((x - cx - 0.5 * rx) / (0.4 * rx)) ** 2 + ((y - cy) / (0.4 * ry)) ** 2 <= 1
        masks.append(mask & ~bite if rng.uniform() < 0.7 else mask)
    return np.array(masks).astype(np.uint8)


def random_truth(rng, count, width, height, classes):
    boxes = np.round(random_rois(rng, count, width, height, least=24))
    return boxes, rng.integers(1, classes, count), blobs(rng, boxes, height, width)


def tiny_parameters(rng):
    parameters = ref.random_parameters(rng, UNITS, WIDTHS, (9, 16, 24, CLASSES, K))
    for name in ("rpn_bbox_pred", "fcis_bbox", "rpn_cls_score"):
        parameters[f"{name}_weight"] *= 0.1
    return parameters
