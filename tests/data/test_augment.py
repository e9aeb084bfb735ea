import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.data import augment
from fcis_tf.geometry.paste import paste_masks
from tests import fixtures


def make_example(rng, height=50, width=70, count=4, side=56):
    """An example and its whole-image masks."""
    masks = [
        fixtures.disc(height, width, rng.uniform(8, height - 8), rng.uniform(8, width - 8), 7.3)
        for _ in range(count)
    ]
    record = fixtures.make_record(rng, height=height, width=width, instances=0)
    instances = tuple(
        fixtures.Instance(fixtures.tight_box(m), 7, "block", m, False, float(m.sum()))
        for m in masks
    )
    from fcis_tf.data.parse import parse
    from fcis_tf.data.records import encode

    serialized = encode(record._replace(instances=instances))
    return parse(tf.constant(serialized), category_ids=(3, 7, 9), mask_size=side), np.array(masks)


def pasted(example):
    """Box-frame masks on the pixels of the example's image."""
    height, width = example["image"].shape[:2]
    votes, boxes = example["masks"].numpy() / 255.0, example["boxes"].numpy()
    return paste_masks(votes, boxes, height, width, 0.5)


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def test_flip_twice_is_identity_and_once_mirrors_everything(rng):
    example, masks = make_example(rng)
    once = augment.flip(example)
    np.testing.assert_array_equal(once["image"], example["image"][:, ::-1])
    for found, mask in zip(pasted(once), masks[:, :, ::-1].astype(bool), strict=True):
        assert iou(found, mask) > 0.97
    twice = augment.flip(once)
    for key in example:
        np.testing.assert_array_equal(twice[key], example[key])


def test_transpose_exchanges_rows_and_columns_of_everything(rng):
    example, masks = make_example(rng)
    once = augment.transpose(example)
    np.testing.assert_array_equal(once["image"], np.swapaxes(example["image"], 0, 1))
    for found, mask in zip(pasted(once), np.swapaxes(masks, 1, 2).astype(bool), strict=True):
        assert iou(found, mask) > 0.97
    twice = augment.transpose(once)
    for key in example:
        np.testing.assert_array_equal(twice[key], example[key])


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_resized_masks_follow_the_resized_image(rng, factor):
    """The image is one instance's mask as grey levels: box-frame mask and picture must agree."""
    example, masks = make_example(rng)
    for i, mask in enumerate(masks):
        image = tf.constant(np.repeat(255 * mask[..., None], 3, -1))
        found = augment.resize(example | {"image": image}, tf.constant(factor))
        assert iou(pasted(found)[i], found["image"].numpy()[..., 0] >= 127.5) > 0.93
    size = [round(factor * 50), round(factor * 70)]
    assert found["image"].shape[:2] == size and float(found["scale"]) == pytest.approx(factor)


def test_resize_samples_by_the_factor_itself():
    """A ramp stays the same ramp: pixel x shows (x + 0.5) / r - 0.5, whatever rint(r W) is."""
    ramp = np.tile(np.arange(50, dtype=np.float32)[None, :, None], (4, 1, 3))
    example = {"image": tf.constant(ramp), "boxes": tf.zeros([0, 4])}
    found = augment.resize(example, tf.constant(1.8018))["image"].numpy()[0, :, 0]
    expected = np.clip((np.arange(90) + 0.5) / 1.8018 - 0.5, 0, 49)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("size", [(27, 40), (40, 27), (30, 40), (20, 53), (31, 31), (1, 7)])
@pytest.mark.parametrize("factor", [None, 1.37, 0.8, np.float32(2 / 3)])
def test_resized_pixels_are_bilinear_in_every_implementation(rng, size, factor):
    """The factor of `resize_factor` makes one side whole, 1.37 makes neither."""
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    given = augment.resize_factor(size, 38, 63) if factor is None else tf.constant(factor)
    found = augment.resize({"image": tf.constant(image), "boxes": tf.zeros([0, 4])}, given)["image"]
    expected = image.astype(np.float64)
    for axis, length in enumerate(size):
        places = np.arange(max(round(length * float(given)), 1))
        at = np.clip((places + 0.5) / float(given) - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape(-1, *[1] * (2 - axis))
        high = np.minimum(low + 1, length - 1)
        expected = expected.take(low, axis) * (1 - share) + expected.take(high, axis) * share
    np.testing.assert_allclose(found, expected, atol=2e-2)


@pytest.mark.parametrize(
    ("size", "short", "long", "factor"),
    [
        ((480, 640), 600, 1000, 1.25),
        ((375, 500), 600, 1000, 1.6),
        ((300, 900), 600, 1000, 1000 / 900),
    ],
)
def test_resize_factor_of_the_released_sizes(size, short, long, factor):
    assert float(augment.resize_factor(size, short, long)) == pytest.approx(factor)


def test_crop_is_a_window_of_the_resized_example(rng):
    example, masks = make_example(rng, count=6)
    corner, size = tf.constant([12, 20]), tf.constant([60, 50])
    whole = augment.resize(example, tf.constant(1.6))
    found = augment.resize_and_crop(example, tf.constant(1.6), corner, size)
    np.testing.assert_allclose(found["image"], whole["image"][12:72, 20:70], atol=1e-3)
    kept = 0
    for mask in pasted(whole):
        window = mask[12:72, 20:70]
        share = window.sum() / mask.sum()
        best = max((iou(other, window) for other in pasted(found)), default=0.0)
        if share > 0.15:
            assert best > 0.93
            kept += 1
        elif share < 0.05:
            assert best < 0.6
    assert kept and len(found["labels"]) <= len(masks)


def test_crop_of_everything_is_resize(rng):
    example, _ = make_example(rng)
    a = augment.resize(example, tf.constant(1.6))
    b = augment.resize_and_crop(
        example, tf.constant(1.6), tf.zeros([2], tf.int32), tf.shape(a["image"])[:2]
    )
    np.testing.assert_allclose(a["image"], b["image"], atol=1e-3)
    np.testing.assert_allclose(a["boxes"], b["boxes"], atol=1e-3)
    np.testing.assert_allclose(a["masks"], b["masks"], atol=1.0)


def test_limit_is_a_random_subset_in_order(rng):
    example, _ = make_example(rng, count=6)
    example["labels"] = tf.range(6)
    chosen = set()
    for n in range(40):
        labels = augment.limit_instances(example, 3, tf.constant([n, 0]))["labels"].numpy()
        assert len(labels) == 3 and (np.diff(labels) > 0).all()
        chosen |= set(labels.tolist())
    assert chosen == set(range(6))
    same = augment.limit_instances(example, 9, tf.constant([1, 0]))
    np.testing.assert_array_equal(same["boxes"], example["boxes"])


def test_jitter_is_affine_bounded_and_stateless(rng):
    example = {"image": tf.constant(rng.uniform(60, 180, (5, 6, 3)), tf.float32)}
    a = augment.color_jitter(example, 0.2, tf.constant([1, 2]))["image"].numpy()
    b = augment.color_jitter(example, 0.2, tf.constant([1, 2]))["image"].numpy()
    np.testing.assert_array_equal(a, b)
    scale, shift = np.polyfit(example["image"].numpy().ravel(), a.ravel(), 1)
    assert abs(scale - 1) <= 0.2 and abs(shift) <= 51 and (abs(scale - 1) > 0.001)


@pytest.mark.parametrize(
    "transform",
    [
        augment.flip,
        augment.transpose,
        augment.drop_crowds,
        augment.subtract_means,
        lambda e: augment.resize(e, tf.constant(1.3)),
        lambda e: augment.color_jitter(e, 0.3, tf.constant([4, 5])),
        lambda e: augment.limit_instances(e, 2, tf.constant([4, 5])),
        lambda e: augment.resize_and_crop(
            e, tf.constant(1.3), tf.constant([9, 3]), tf.constant([40, 40])
        ),
    ],
    ids=["flip", "transpose", "crowds", "means", "resize", "jitter", "limit", "crop"],
)
def test_eager_equals_tf_data(rng, transform):
    example, _ = make_example(rng)
    eager = transform(example)
    (mapped,) = tf.data.Dataset.from_tensors(example).map(transform)
    assert eager.keys() == mapped.keys()
    for key in eager.keys() - {"image_id"}:
        np.testing.assert_allclose(
            tf.cast(eager[key], tf.float32), tf.cast(mapped[key], tf.float32), atol=1e-4
        )
