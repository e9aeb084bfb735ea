import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.data.parse import parse
from fcis_tf.data.records import decode, encode, load_labels, read_records, record_files
from fcis_tf.errors import FcisError
from tests import fixtures, oracle

IDS = tuple(fixtures.NAMES)


@pytest.mark.parametrize(("instances", "crowds"), [(3, 1), (0, 0)])
def test_decode_inverts_encode(rng, instances, crowds):
    record = fixtures.make_record(rng, instances=instances, crowds=crowds)
    found = decode(encode(record))
    assert found._replace(instances=()) == record._replace(instances=())
    for a, b in zip(found.instances, record.instances, strict=True):
        np.testing.assert_allclose(a.box, b.box, rtol=1e-6)
        np.testing.assert_array_equal(a.mask, b.mask)
        assert (a.category_id, a.name, a.crowd, a.area) == (b.category_id, b.name, b.crowd, b.area)


def test_keys_and_units_are_those_of_the_model_garden(rng):
    record = fixtures.make_record(rng)
    example = tf.train.Example.FromString(encode(record))
    feature = example.features.feature
    assert set(feature) == {
        "image/encoded", "image/format", "image/height", "image/width", "image/filename",
        "image/source_id", "image/object/bbox/ymin", "image/object/bbox/xmin",
        "image/object/bbox/ymax", "image/object/bbox/xmax", "image/object/class/label",
        "image/object/class/text", "image/object/is_crowd", "image/object/area",
        "image/object/mask",
    }  # fmt: skip
    ymax = feature["image/object/bbox/ymax"].float_list.value
    np.testing.assert_allclose(ymax, [i.box[2] / record.height for i in record.instances])
    labels = list(feature["image/object/class/label"].int64_list.value)
    assert labels == [i.category_id for i in record.instances]
    png = tf.io.decode_png(feature["image/object/mask"].bytes_list.value[0])
    np.testing.assert_array_equal(png[..., 0], record.instances[0].mask)


def test_parse_gives_pixels_classes_and_box_frame_masks(rng):
    record = fixtures.make_record(rng, crowds=1)
    found = parse(tf.constant(encode(record)), category_ids=IDS, mask_size=14)
    expected = tf.io.decode_png(record.encoded, channels=3)
    np.testing.assert_array_equal(found["image"], expected)
    np.testing.assert_allclose(found["boxes"], [i.box for i in record.instances], atol=1e-4)
    classes = [1 + IDS.index(i.category_id) for i in record.instances]
    np.testing.assert_array_equal(found["labels"], classes)
    np.testing.assert_array_equal(found["crowd"], [False, False, False, True])
    whole = [0, 0, record.height, record.width]
    for mask, instance in zip(found["masks"], record.instances, strict=True):
        value = oracle.resample(instance.mask.astype(float), whole, instance.box, 14)
        np.testing.assert_allclose(mask / 255, value, atol=0.005)


def test_parse_accepts_what_other_converters_write(rng):
    """Masks of 0 and 255, no is_crowd, no area, a grey JPEG, no size."""
    record = fixtures.make_record(rng, instances=2)
    example = tf.train.Example.FromString(encode(record))
    feature = example.features.feature
    for key in ("image/object/is_crowd", "image/object/area", "image/height", "image/width"):
        del feature[key]
    grey = fixtures.encode_image(np.full((60, 80), 90, np.uint8), "JPEG")
    feature["image/encoded"].bytes_list.value[0] = grey
    bright = [fixtures.encode_image(255 * i.mask) for i in record.instances]
    del feature["image/object/mask"].bytes_list.value[:]
    feature["image/object/mask"].bytes_list.value.extend(bright)
    other = example.SerializeToString()
    ours = parse(tf.constant(encode(record)), category_ids=IDS, mask_size=14)
    theirs = parse(tf.constant(other), category_ids=IDS, mask_size=14)
    np.testing.assert_array_equal(theirs["image"], np.full((60, 80, 3), 90))
    for key in ("boxes", "labels", "masks", "crowd"):
        np.testing.assert_array_equal(ours[key], theirs[key])
    found = decode(other)
    assert (found.height, found.width) == (60, 80)
    assert [i.area for i in found.instances] == [i.mask.sum() for i in record.instances]


def test_parse_of_an_image_without_instances(rng):
    found = parse(
        tf.constant(encode(fixtures.make_record(rng, instances=0))), category_ids=IDS, mask_size=14
    )
    assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 14, 14)


def test_faults_name_the_cause(rng):
    record = fixtures.make_record(rng)
    example = tf.train.Example.FromString(encode(record))
    mixed = [i._replace(category_id=c) for i, c in zip(record.instances, (9, 3, 11), strict=True)]
    strange = tf.constant(encode(record._replace(instances=tuple(mixed))))
    words = r"category id is not in the labels(.|\n)*found ids:\W*9\W+11\b"
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        parse(strange, category_ids=(1, 3), mask_size=14)
    dataset = tf.data.Dataset.from_tensors(strange)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        list(dataset.map(lambda one: parse(one, category_ids=(1, 3), mask_size=14)))
    del example.features.feature["image/object/mask"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="no image/object/mask"):
        parse(tf.constant(example.SerializeToString()), category_ids=IDS, mask_size=14)
    with pytest.raises(FcisError, match="image/object/mask"):
        decode(example.SerializeToString(), "here")
    with pytest.raises(FcisError, match="here: expected the key 'image/encoded'"):
        decode(tf.train.Example().SerializeToString(), "here")
    with pytest.raises(FcisError, match="here: not a tf.train.Example"):
        decode(b"\xff\xff\xff", "here")


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("image/encoded", [b"text"], "here: image/encoded is no image"),
        ("image/object/mask", [b"text"] * 3, "here: image/object/mask is no PNG"),
        (
            "image/object/mask",
            [fixtures.encode_image(np.ones((30, 40), np.uint8))] * 3,
            r"of the image's size \(60, 80\), found \(30, 40\)",
        ),
        ("image/object/mask", [b"text"] * 2, "image/object/mask has 2 entries, expected 3"),
        ("image/object/class/text", [b"disc"], "image/object/class/text has 1 entries, expected 3"),
    ],
)
def test_faults_inside_a_record_are_reported_in_one_line(rng, key, values, words):
    example = tf.train.Example.FromString(encode(fixtures.make_record(rng)))
    feature = example.features.feature[key].bytes_list.value
    del feature[:]
    feature.extend(values)
    with pytest.raises(FcisError, match=words) as fault:
        decode(example.SerializeToString(), "here")
    assert "\n" not in str(fault.value)
    if key != "image/object/class/text":
        with pytest.raises(tf.errors.InvalidArgumentError):
            parse(tf.constant(example.SerializeToString()), category_ids=IDS, mask_size=14)


def test_labels_lie_beside_a_folder_or_a_file(rng, tmp_path):
    fixtures.write_records(tmp_path, [fixtures.make_record(rng)])
    assert load_labels(tmp_path) == load_labels(record_files(tmp_path)[0])
    assert load_labels(tmp_path).ids == IDS
    (tmp_path / "labels.json").unlink()
    with pytest.raises(FcisError, match="set data.labels"):
        load_labels(tmp_path)


def test_record_files_refuses_incomplete_sets(rng, tmp_path):
    with pytest.raises(FcisError, match=r"no \*.tfrecord files"):
        record_files(tmp_path)
    fixtures.write_records(tmp_path, [fixtures.make_record(rng, str(n)) for n in range(4)], 2)
    assert [r.image_id for r in read_records(tmp_path)] == ["0", "2", "1", "3"]
    (tmp_path / "data-00001-of-00002.tfrecord").unlink()
    with pytest.raises(FcisError, match="1 of 2 shards"):
        record_files(tmp_path)


def test_a_truncated_file_is_named(rng, tmp_path):
    fixtures.write_records(tmp_path, [fixtures.make_record(rng, str(n)) for n in range(3)])
    file = record_files(tmp_path)[0]
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(FcisError, match="damaged after record 2"):
        list(read_records(tmp_path))
