from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from fcis_tf.cutouts import CutOut, cut_out
from fcis_tf.errors import FcisError
from fcis_tf.evaluation import coco
from fcis_tf.instances import Instances, concatenate
from fcis_tf.labels import Labels
from tests import fixtures

HEIGHT, WIDTH = 40, 60
LABELS = Labels((3, 7), ("disc", "block"))


@pytest.fixture
def found(rng):
    """Boxes, labels, scores and masks; some at the borders, one the whole image, one empty."""
    places = [(20, 30, 9), (0, 0, 6), (39, 59, 8), (10, 59, 5), (39, 20, 7)]
    masks = [fixtures.disc(HEIGHT, WIDTH, *place) for place in places]
    corners = np.zeros((HEIGHT, WIDTH))
    corners[30:, 20:25] = 1  # the last pixel of its last column is the last of a column
    masks += [corners, np.ones((HEIGHT, WIDTH)), rng.random((HEIGHT, WIDTH)) < 0.5]
    boxes = [
        np.add(fixtures.tight_box(m), rng.uniform([-0.9] * 2 + [0] * 2, [0] * 2 + [0.9] * 2))
        for m in masks
    ]
    boxes = np.clip(boxes, 0, [HEIGHT, WIDTH] * 2).astype(np.float32)
    masks.append(np.zeros((HEIGHT, WIDTH)))
    boxes = np.concatenate([boxes, [[5, 5, 6, 6]]]).astype(np.float32)
    count = len(masks)
    return boxes, rng.integers(1, 3, count), rng.uniform(0, 1, count), np.array(masks, bool)


@pytest.fixture
def instances(found):
    boxes, labels, scores, masks = found
    cutouts = tuple(cut_out(mask, box) for mask, box in zip(masks, boxes, strict=True))
    columns = boxes, labels.astype(np.int32), scores.astype(np.float32)
    image = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
    return Instances(HEIGHT, WIDTH, *columns, cutouts, LABELS, image)


def test_a_cut_out_put_back_is_the_mask(instances, found):
    np.testing.assert_array_equal(instances.masks, found[3])
    for cutout, mask in zip(instances.cutouts, found[3], strict=True):
        np.testing.assert_array_equal(cutout.inside((7, 11, 29, 42)), mask[7:29, 11:42])
        beyond = cutout.moved(-5, 4).inside((0, 0, HEIGHT, WIDTH))
        np.testing.assert_array_equal(beyond[:-5, 4:], mask[5:, :-4])
    np.testing.assert_array_equal(instances.areas(), found[3].sum((1, 2)))


def test_coco_results_hold_the_masks_boxes_and_categories(instances, found):
    boxes, labels, scores, masks = found
    rows = instances.to_coco("a.png")
    assert [row["category_id"] for row in rows] == [LABELS.ids[n - 1] for n in labels]
    assert instances.names == [LABELS.names[n - 1] for n in labels]
    for row, box, score, mask in zip(rows, boxes.astype(float), scores, masks, strict=True):
        y0, x0, y1, x1 = box
        assert row["image_id"] == "a.png" and row["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert row["score"] == np.float32(score)
        assert row["segmentation"] == coco.encode_mask(mask)
        np.testing.assert_array_equal(coco_mask.decode(row["segmentation"]), mask)


def test_polygons_filled_by_cocos_rules_are_the_masks(instances, found):
    """Also of many parts, with holes, and at the border of the image."""
    for outlines, mask in zip(instances.polygons(), found[3], strict=True):
        assert all(np.array_equal(outline[0], outline[-1]) for outline in outlines)
        filled = np.zeros((HEIGHT, WIDTH), bool)
        for outline in outlines:
            rle = coco_mask.frPyObjects([outline.ravel().tolist()], HEIGHT, WIDTH)
            filled ^= coco_mask.decode(rle)[..., 0].astype(bool)
        np.testing.assert_array_equal(filled, mask)


def test_some_of_the_instances(instances, found):
    above = instances.above(0.4)
    keep = found[2].astype(np.float32) >= 0.4
    assert 0 < len(above) < len(instances)
    for selected in (above, instances[keep], instances[np.flatnonzero(keep)]):
        np.testing.assert_array_equal(selected.boxes, found[0][keep])
        np.testing.assert_array_equal(selected.masks, found[3][keep])
    np.testing.assert_array_equal(instances[2:4].labels, found[1][2:4])
    assert len(instances[[]]) == 0 and instances[[]].masks.shape == (0, HEIGHT, WIDTH)


def test_moved_and_concatenated(instances, found):
    moved = instances.moved(3, 5, HEIGHT + 10, WIDTH + 10)
    np.testing.assert_array_equal(moved.boxes, found[0] + np.float32([3, 5, 3, 5]))
    np.testing.assert_array_equal(moved.masks[:, 3 : 3 + HEIGHT, 5 : 5 + WIDTH], found[3])
    np.testing.assert_array_equal(moved.areas(), instances.areas())
    both = concatenate([instances, instances[1:]])
    np.testing.assert_array_equal(both.masks, np.concatenate([found[3], found[3][1:]]))


def test_label_maps_number_instances_and_the_first_counts(instances, found):
    numbers, masks = instances.label_map(), found[3]
    assert numbers.dtype == np.uint16
    np.testing.assert_array_equal(numbers, np.where(masks.any(0), masks.argmax(0) + 1, 0))


def test_too_many_instances_for_a_label_map_are_refused(instances):
    many = instances[np.zeros(65536, int)]
    with pytest.raises(FcisError, match="at most 65535 instances, found 65536"):
        many.label_map()


def test_pictures_show_each_mask_in_its_colour(instances, tmp_path):
    shown = instances[:1]
    picture = np.asarray(shown.draw())
    zoom = picture.shape[0] // HEIGHT
    inside = np.kron(shown.masks[0], np.ones((zoom, zoom), bool))
    changed = (picture != 99).any(-1)
    assert changed[inside].all()
    shown.save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(FcisError, match=r"a\.txt: expected a name that ends in"):
        shown.save(tmp_path / "a.txt")
    with pytest.raises(FcisError, match="expected an image of 40 x 60 pixels"):
        shown.draw(np.zeros((60, 40, 3), np.uint8))
    with pytest.raises(FcisError, match="hold no image"):
        replace(shown, image=None).draw()


@pytest.mark.parametrize("label", [0, 3])
def test_classes_that_the_labels_lack_are_refused(label):
    columns = np.zeros((1, 4), np.float32), np.array([label]), np.ones(1, np.float32)
    with pytest.raises(FcisError, match=rf"class numbers in 1..2, found {label}"):
        Instances(5, 5, *columns, (CutOut(0, 0, np.ones((1, 1), bool)),), LABELS)
