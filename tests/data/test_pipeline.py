from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import DataConfig, load_config
from fcis_tf.data.pipeline import evaluation_dataset, network_input, training_dataset
from fcis_tf.data.records import load_labels, read_records
from fcis_tf.errors import FcisError
from fcis_tf.structures import PIXEL_MEANS
from tests import fixtures

SMALL = {"short_sides": (60,), "long_side": 100, "mask_size": 14, "shuffle_buffer": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 usable images, landscape and portrait, one empty and one with a crowd only."""
    rng = np.random.default_rng(0)
    records = [
        fixtures.make_record(
            rng, str(n), *((60, 80) if n % 3 else (80, 60)), instances=1 + n % 4, crowds=n % 2
        )
        for n in range(12)
    ]
    records += [fixtures.make_record(rng, "empty", instances=0)]
    records += [fixtures.make_record(rng, "crowd", instances=0, crowds=1)]
    return fixtures.write_records(tmp_path_factory.mktemp("records"), records, shards=2)


def batches(folder, count, *, batch_size=2, seed=5, step_size=None, start=0, shard=(0, 1), **data):
    """The first batches; `data` are keys of the configuration."""
    stream = training_dataset(
        folder, load_labels(folder), DataConfig(**SMALL | data),
        batch_size=batch_size, seed=seed, step_size=step_size, start=start, shard=shard,
    )  # fmt: skip
    return list(stream.take(count).as_numpy_iterator())


def evaluated(folder, batch_size, **data):
    sides = {"validation_short_side": 60, "validation_long_side": 100, "mask_size": 14}
    data = DataConfig(**sides | {"max_instances": 9} | data)
    return evaluation_dataset(folder, load_labels(folder), data, batch_size=batch_size), data


def same(a, b):
    return all((x[key] == y[key]).all() for x, y in zip(a, b, strict=True) for key in x)


@pytest.mark.parametrize("cache", [False, True])
def test_the_same_seed_gives_the_same_batches_and_start_skips(folder, cache):
    options = {
        "cache": cache, "short_sides": (60, 80, 100), "crop": 64, "crop_from": 80,
        "color_jitter": 0.2,
    }  # fmt: skip
    first = batches(folder, 20, **options)
    assert same(first, batches(folder, 20, **options))
    assert same(first[7:], batches(folder, 13, start=7, **options))
    assert not same(first, batches(folder, 20, **{**options, "seed": 6}))


@pytest.mark.parametrize("cache", [False, True])
def test_every_usable_image_comes_once_an_epoch(folder, cache):
    seen = [i for b in batches(folder, 24, batch_size=1, cache=cache) for i in b["image_id"]]
    names = {str(n).encode() for n in range(12)}
    assert set(seen[:12]) == names and set(seen[12:]) == names
    assert seen[:12] != seen[12:]


def images(parts):
    """Names and pixels without padding of all images of some batches, in order."""
    for batch in parts:
        for image, (height, width), name in zip(
            batch["image"], batch["image_size"].astype(int), batch["image_id"], strict=True
        ):
            yield name, image[:height, :width]


@pytest.mark.parametrize(("hosts", "batch_size", "start"), [(1, 1, 0), (2, 3, 0), (3, 1, 4)])
def test_a_step_has_the_same_images_however_it_is_cut_up(folder, hosts, batch_size, start):
    steps = 8
    whole = batches(folder, steps, batch_size=6, step_size=6, start=start)
    count = steps * 6 // (hosts * batch_size)
    options = {"batch_size": batch_size, "step_size": 6, "start": start}
    shares = [
        list(images(batches(folder, count, shard=(n, hosts), **options))) for n in range(hosts)
    ]
    each = 6 // hosts
    for step, batch in enumerate(whole):
        together = [pair for share in shares for pair in share[step * each : (step + 1) * each]]
        for (a, x), (b, y) in zip(images([batch]), together, strict=True):
            assert a == b
            np.testing.assert_array_equal(x, y)


def test_a_step_that_does_not_divide_is_refused(folder):
    with pytest.raises(ValueError, match="6 images do not divide into 2 x batches of 2"):
        batches(folder, 1, step_size=6, shard=(0, 2))


def test_landscape_and_portrait_do_not_share_a_batch(folder):
    mixed = Counter()
    for batch in batches(folder, 40):
        landscape = batch["original_size"][:, 1] >= batch["original_size"][:, 0]
        assert landscape.all() or not landscape.any()
        mixed[bool(landscape[0])] += 1
    assert min(mixed.values()) >= 8  # a third of the images is portrait
    sizes = [b["original_size"].tolist() for b in batches(folder, 40, aspect_grouping=False)]
    assert any(a != b for a, b in sizes)


def test_crowds_are_dropped_and_padding_is_marked(folder):
    truth = {r.image_id: r for r in read_records(folder)}
    for batch in batches(folder, 10, flip=False):
        for i, name in enumerate(batch["image_id"]):
            record = truth[name.decode()]
            wanted = [x for x in record.instances if not x.crowd]
            present = batch["labels"][i] > 0
            assert present.sum() == len(wanted) and (batch["labels"][i][~present] == -1).all()
            boxes = np.array([x.box for x in wanted]) * batch["scale"][i]
            np.testing.assert_allclose(batch["boxes"][i][present], boxes, atol=0.51)
            assert not batch["boxes"][i][~present].any() and not batch["masks"][i][~present].any()
            height, width = batch["image_size"][i].astype(int)
            assert not batch["image"][i, height:].any() and not batch["image"][i, :, width:].any()


def test_a_batch_is_its_images_padded(folder):
    single = list(evaluated(folder, 1)[0].as_numpy_iterator())
    together = list(evaluated(folder, 4)[0].as_numpy_iterator())
    rows = [(b, i) for b in together for i in range(len(b["image_id"]))]
    assert len(rows) == len(single) == 14  # images without instances stay
    for one, (batch, i) in zip(single, rows, strict=True):
        assert one["image_id"][0] == batch["image_id"][i]
        for key, value in one.items():
            if key == "image_id":
                continue
            window = tuple(slice(0, n) for n in value.shape[1:])
            np.testing.assert_array_equal(batch[key][i][window], value[0])


def test_most_instances(folder):
    assert max(b["labels"].shape[1] for b in batches(folder, 20, max_instances=2)) == 2


def test_half_of_the_images_are_mirrored(folder):
    plain = batches(folder, 60, batch_size=1, flip=False)
    drawn = batches(folder, 60, batch_size=1)
    mirrored = 0
    for a, b in zip(plain, drawn, strict=True):
        assert a["image_id"] == b["image_id"]
        if (a["image"] != b["image"]).any():
            np.testing.assert_allclose(a["image"], b["image"][:, :, ::-1], atol=1e-3)
            mirrored += 1
    assert 15 <= mirrored <= 45


def test_turned_images_take_all_eight_orientations(folder):
    options = {"batch_size": 1, "factors": (1.0,)}
    plain = batches(folder, 120, flip=False, **options)
    drawn = batches(folder, 120, turn=True, **options)
    ways = Counter()
    for a, b in zip(plain, drawn, strict=True):
        image, turned = a["image"][0], b["image"][0]
        laid = [np.rot90(side, n) for side in (image, image[:, ::-1]) for n in range(4)]
        (way,) = (n for n, one in enumerate(laid) if np.array_equal(one, turned))
        ways[way] += 1
        y0, x0, y1, x1 = b["boxes"][0].T
        assert ((y0 < y1) & (x0 < x1) & (y1 <= len(turned)) & (x1 <= turned.shape[1])).all()
        assert tuple(b["original_size"][0]) == turned.shape[:2]
    assert set(ways) == set(range(8)) and min(ways.values()) >= 4


def test_scale_jitter_multiplies_the_factor_by_a_uniform_number(folder):
    options = {"batch_size": 1, "factors": (2.0,), "flip": False}
    scales = [
        float(b["scale"][0]) for b in batches(folder, 100, scale_jitter=(0.5, 1.5), **options)
    ]
    assert 1.0 <= min(scales) < 1.15 and 2.85 < max(scales) <= 3.0
    assert np.mean(scales) == pytest.approx(2.0, abs=0.2)


def test_scales_are_drawn_from_the_list(folder):
    drawn = Counter(
        min(b["image_size"][0].astype(int))
        for b in batches(folder, 60, batch_size=1, short_sides=(30, 60))
    )
    assert set(drawn) == {30, 60} and min(drawn.values()) >= 15


def test_network_input_is_the_image_of_the_evaluation_batch(folder):
    dataset, data = evaluated(folder, 1, validation_short_side=90)
    (batch,) = dataset.take(1)
    record = next(read_records(folder))
    image = tf.io.decode_png(record.encoded)
    pixels, scale = network_input(image, data)
    np.testing.assert_array_equal(pixels, batch["image"][0])
    assert float(scale) == pytest.approx(100 / 80)  # the longer side is the limit
    plain, one = network_input(image, DataConfig(validation_factor=1.0))
    np.testing.assert_allclose(plain, tf.cast(image, tf.float32) - PIXEL_MEANS, atol=1e-3)
    assert float(one) == 1.0


@pytest.mark.parametrize("most", [100, 512])
def test_a_crowded_image_is_neither_dropped_nor_too_large(tmp_path, rng, most):
    crowded = fixtures.make_record(rng, "many", 200, 300, instances=500)
    fixtures.write_records(tmp_path, [crowded, fixtures.make_record(rng, "few", instances=2)])
    found = {
        batch["image_id"][0]: batch
        for batch in batches(tmp_path, 2, batch_size=1, max_instances=most, mask_size=112)
    }
    assert set(found) == {b"many", b"few"}
    many = found[b"many"]
    assert many["masks"].shape == (1, min(most, 500), 112, 112)
    assert (many["labels"] > 0).all() and (many["masks"] > 127).any((2, 3)).all()
    assert (many["boxes"][..., 2:] > many["boxes"][..., :2]).all()


def test_large_scale_jitter_resizes_and_crops_to_a_window(folder):
    """Factors 0.1 to 2; what is larger than the window is cut to it, what is smaller stays."""
    options = {"scale_jitter": (0.1, 2.0), "crop": 70, "crop_from": 1, "factors": (1.0,)}
    seen = batches(folder, 100, batch_size=1, flip=False, **options)
    for batch in seen:
        full = batch["original_size"][0] * batch["scale"][0]
        np.testing.assert_allclose(batch["image_size"][0], np.minimum(full, 70), atol=0.51)
        present = batch["labels"][0] > 0
        size = np.tile(batch["image_size"][0], 2)
        assert (batch["boxes"][0][present] <= size + 1e-3).all()
    scales = np.array([batch["scale"][0] for batch in seen])
    assert scales.min() < 0.3 and scales.max() > 1.8
    assert len({tuple(b["image_size"][0]) for b in seen}) > 30


def test_multi_scale_training_of_the_paper(tmp_path, rng):
    """Sides of the paper; the finer ones in windows; the long side is capped in proportion."""
    config = load_config("configs/fcis_r101_coco_multiscale.yaml")
    sides = (480, 576, 688, 864, 1200, 1400)
    assert config.data.short_sides == sides
    fixtures.write_records(tmp_path, [fixtures.make_record(rng, "a", 60, 150, instances=2)])
    options = config.data.model_dump() | {"mask_size": 14}
    drawn = Counter()
    for batch in batches(tmp_path, 60, batch_size=1, **options):
        size, scale = batch["image_size"][0], float(batch["scale"][0])
        # 150 / 60 is longer than 1000 / 600: the longer side is the limit.
        side = min(sides, key=lambda s: abs(scale * 150 - s * 1000 / 600))
        assert scale == pytest.approx(side * 1000 / 600 / 150, rel=1e-3)
        full = np.array([60, 150]) * scale
        cut = full.min() >= 864
        np.testing.assert_allclose(size, np.minimum(full, 600) if cut else full, atol=0.51)
        drawn[side] += 1
    assert set(drawn) == set(sides) and min(drawn.values()) >= 2


@pytest.mark.slow
def test_a_service_makes_the_same_batches(folder):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
    served = batches(folder, 6, service=dispatcher.target)
    assert same(served, batches(folder, 6))
    del worker


def test_nothing_to_train_on_is_an_error(tmp_path, rng):
    fixtures.write_records(tmp_path, [fixtures.make_record(rng, "a", instances=0, crowds=1)])
    with pytest.raises(FcisError, match="no image with an instance"):
        batches(tmp_path, 1)
