import json

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from fcis_tf.data.shapes import CATEGORIES, LEAST_PIXELS, draw_image, generate_shapes


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate_shapes(tmp_path / name, train=2, validation=1, size=64, seed=seed)
    files = sorted(
        p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    assert len(files) == 5
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )
    assert all(
        (tmp_path / "a" / f).read_bytes() != (tmp_path / "c" / f).read_bytes() for f in files
    )


def test_pycocotools_reads_it_and_splits_differ(tmp_path, capsys):
    generate_shapes(tmp_path, train=3, validation=3, size=96)
    coco = COCO(str(tmp_path / "train.json"))
    capsys.readouterr()
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CATEGORIES.values())
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"] >= LEAST_PIXELS
        x, y, w, h = map(int, annotation["bbox"])
        assert mask[y : y + h, x : x + w].sum() == mask.sum()
    first = [np.asarray(Image.open(tmp_path / s / "000001.jpg")) for s in ("train", "val")]
    assert (first[0] != first[1]).any()
    assert len(json.loads((tmp_path / "val.json").read_text())["images"]) == 3


def test_visible_masks_do_not_overlap_and_neighbours_of_one_class_touch():
    touching = 0
    for n in range(40):
        _, shapes = draw_image(np.random.default_rng(n), 160)
        assert len(shapes) >= 2
        assert sum(mask.astype(int) for _, mask in shapes).max() == 1
        for i, (a, first) in enumerate(shapes):
            grown = first.copy()
            for axis in (0, 1):
                grown |= np.roll(grown, 1, axis) | np.roll(grown, -1, axis)
            touching += sum(a == b and (grown & mask).any() for b, mask in shapes[i + 1 :])
    assert touching >= 30
