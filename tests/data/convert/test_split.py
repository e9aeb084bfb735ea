import json
from collections import Counter

import pytest

from fcis_tf.data.convert.report import Report
from fcis_tf.data.convert.split import draw_split, split_coco, split_source
from fcis_tf.data.sources.base import Source
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels


def random_classes(rng, count):
    chances = {"common": 0.9, "half": 0.5, "rare": 0.08, "rarest": 0.03}
    return {
        f"image {n}": frozenset(c for c, chance in chances.items() if rng.random() < chance)
        for n in range(count)
    }


@pytest.mark.parametrize("count", [2, 7, 50, 301])
@pytest.mark.parametrize("part", [0.1, 0.2, 0.5, 0.77])
def test_every_image_is_on_one_side_and_every_group_has_its_share(rng, count, part):
    classes = random_classes(rng, count)
    if not 0 < int(count * part + 0.5) < count:
        with pytest.raises(FcisError, match="each needs at least one"):
            draw_split(classes, validation=part, seed=1)
        return
    drawn = draw_split(classes, validation=part, seed=1)
    assert sorted(drawn.train + drawn.validation) == sorted(classes)
    assert len(drawn.validation) == int(count * part + 0.5)
    held = set(drawn.validation)
    # Groups by the rarest class of an image, as an oracle counts them.
    images_with = Counter(c for names in classes.values() for c in names)
    groups = {}
    for image, names in classes.items():
        rarest = min(names, key=lambda c: (images_with[c], c), default=None)
        groups.setdefault(rarest, []).append(image in held)
    for members in groups.values():
        assert abs(sum(members) - part * len(members)) <= 1
    for name, pair in drawn.counts.items():
        assert pair == (
            sum(name in classes[i] for i in drawn.train),
            sum(name in classes[i] for i in drawn.validation),
        )


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_images(rng):
    classes = random_classes(rng, 60)
    other = {key: classes[key] for key in sorted(classes, reverse=True)}
    draws = [draw_split(c, validation=0.3, seed=s) for c, s in ((classes, 4), (other, 4))]
    assert set(draws[0].validation) == set(draws[1].validation)
    assert draws[0].validation == [i for i in classes if i in set(draws[0].validation)]
    different = [set(draw_split(classes, validation=0.3, seed=s).validation) for s in range(5)]
    assert len({frozenset(held) for held in different}) == 5


def coco(folder, images, rows, **more):
    content = {
        "info": {"year": 2026}, "images": images, "annotations": rows,
        "categories": [{"id": 3, "name": "a"}, {"id": 8, "name": "b"}],
    } | more  # fmt: skip
    (folder / "all.json").write_text(json.dumps(content))
    return folder / "all.json"


def test_two_coco_files_hold_what_one_held(tmp_path, rng):
    images = [{"id": n, "file_name": f"{n % 17}.jpg", "width": 9} for n in range(1, 21)]
    rows = [
        {"id": n, "image_id": int(rng.integers(1, 21)), "category_id": 3 + 5 * (n % 2)}
        for n in range(80)
    ]
    rows += [{"id": 81, "image_id": 99, "category_id": 3}, {"id": 82, "image_id": 1}]
    rows += [{"id": 83, "image_id": [1], "category_id": 3}, {"id": 84, "category_id": {}}]
    file = coco(tmp_path, images, rows)
    drawn = split_coco(file, tmp_path / "out", validation=0.25, seed=0)
    parts = [json.loads((tmp_path / "out" / f"{n}.json").read_text()) for n in ("train", "val")]
    for key, whole in (("images", images), ("annotations", rows)):
        together = sorted(parts[0][key] + parts[1][key], key=lambda row: row["id"])
        assert together == whole
    names = [{image["file_name"] for image in part["images"]} for part in parts]
    assert not names[0] & names[1] and names[1] == set(drawn.validation)  # 1, 2, 3 occur twice
    for part in parts:
        ids = {image["id"] for image in part["images"]} | {99}
        assert all(row["image_id"] in ids for row in part["annotations"] if row["id"] < 83)
        assert part["info"] == {"year": 2026} and len(part["categories"]) == 2
    assert {81, 83, 84} <= {row["id"] for row in parts[0]["annotations"]}
    assert "images" in str(drawn) and str(len(drawn.train)) in str(drawn)


def test_the_same_split_again_is_well_and_another_is_refused(tmp_path):
    file = coco(tmp_path, [{"id": n, "file_name": f"{n}.jpg"} for n in range(9)], [])
    split_coco(file, tmp_path / "out", validation=0.3, seed=0)
    before = (tmp_path / "out" / "val.json").read_bytes()
    split_coco(file, tmp_path / "out", validation=0.3, seed=0)
    with pytest.raises(FcisError, match=r"train.json: is of another split"):
        split_coco(file, tmp_path / "out", validation=0.5, seed=0)
    assert (tmp_path / "out" / "val.json").read_bytes() == before


def test_lists_name_the_images_of_other_sources(tmp_path):
    class Item:
        def __init__(self, n):
            self.image_id, self.classes = f"sub/{n}", frozenset("ab"[: n % 3])

    source = Source(Labels((1,), ("a",)), [Item(n) for n in range(10)], Report, {})
    drawn = split_source(source, tmp_path, validation=0.2, seed=0)
    lists = [(tmp_path / f"{name}.txt").read_text().splitlines() for name in ("train", "val")]
    assert lists == [drawn.train, drawn.validation] and [len(x) for x in lists] == [8, 2]
    assert sorted([*lists[0], *lists[1]]) == [f"sub/{n}" for n in range(10)]
