"""Records exchanged with TensorFlow's Model Garden; run by `scripts/research/test_garden.sh`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import load_config
from fcis_tf.data.convert.converter import convert
from fcis_tf.data.records import read_records, read_serialized
from fcis_tf.training import loop
from tests import fixtures

decoders = pytest.importorskip(
    "official.vision.dataloaders.tf_example_decoder",
    reason="no Model Garden; run scripts/research/test_garden.sh",
)
COCO = Path(os.environ.get("COCO", ""))
if not (COCO / "train.json").is_file():
    pytest.skip("COCO names no folder with train/ and train.json", allow_module_level=True)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    out = tmp_path_factory.mktemp("ours")
    convert("coco", COCO / "train", out, annotations=COCO / "train.json", shards=3)
    return out


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    out = tmp_path_factory.mktemp("theirs")
    subprocess.run(
        [
            sys.executable, "-m", "official.vision.data.create_coco_tf_record", "--include_masks",
            f"--image_dir={COCO / 'train'}", f"--object_annotations_file={COCO / 'train.json'}",
            f"--output_file_prefix={out / 'train'}", "--num_shards=3", "--num_processes=0",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return out


def compare_decoders(records):
    """Every record, as our reader and as Model Garden's decoder see it; instances and crowds."""
    decoder = decoders.TfExampleDecoder(include_mask=True)
    instances = crowds = 0
    for (_, serialized), record in zip(
        read_serialized(records), read_records(records), strict=True
    ):
        found = decoder.decode(tf.constant(serialized))
        size = [record.height, record.width] * 2
        boxes = np.array([i.box for i in record.instances]).reshape(-1, 4) / size
        masks = np.array([i.mask for i in record.instances])
        np.testing.assert_allclose(found["groundtruth_boxes"], boxes, atol=1e-6)
        labels = [i.category_id for i in record.instances]
        np.testing.assert_array_equal(found["groundtruth_classes"], labels)
        crowd = [i.crowd for i in record.instances]
        np.testing.assert_array_equal(found["groundtruth_is_crowd"], crowd)
        area = [i.area for i in record.instances]
        np.testing.assert_allclose(found["groundtruth_area"], area, rtol=1e-6)
        np.testing.assert_array_equal(
            found["groundtruth_instance_masks"],
            masks.reshape(-1, record.height, record.width),
        )
        assert found["source_id"] == record.image_id.encode()
        assert tuple(found["image"].shape) == (record.height, record.width, 3)
        instances += len(labels)
        crowds += sum(crowd)
    return instances, crowds


def test_our_records_decode_alike(ours):
    instances, crowds = compare_decoders(ours)
    report = json.loads((ours / "report.json").read_text())
    assert instances == report["instances"] > 0
    assert crowds == report["crowds"] > 0


def test_their_records_decode_alike(theirs):
    instances, _ = compare_decoders(theirs)
    assert instances > 0


def test_both_converters_make_the_same_instances(ours, theirs):
    """But for boxes that overhang the image, which theirs leaves out and ours clips."""
    records = {r.image_id: r for r in read_records(theirs)}
    assert len(records) == len(json.loads((COCO / "train.json").read_text())["images"])
    overhanging = 0
    for mine in read_records(ours):
        other = records[mine.image_id]
        assert other.encoded == mine.encoded
        left = list(other.instances)
        for instance in mine.instances:
            if left and np.allclose(left[0].box, instance.box, atol=1e-3):
                twin = left.pop(0)
                np.testing.assert_array_equal(twin.mask, instance.mask)
                for name in ("category_id", "crowd", "name"):
                    assert getattr(twin, name) == getattr(instance, name)
                assert twin.area == pytest.approx(instance.area)
                continue
            y1, x1 = instance.box[2:]
            assert y1 >= mine.height - 1e-3 or x1 >= mine.width - 1e-3
            overhanging += 1
        assert not left
    print(f"{overhanging} instances that overhang are in our records only")


def test_their_records_train_here(theirs, tmp_path):
    config = load_config(
        None,
        [
            *fixtures.TINY, f"data.train={theirs}", f"data.labels={COCO / 'train.json'}",
            "data.short_sides=[96]", "data.mask_size=14", "proposals.train_count=20",
            "train.steps=3", "train.warmup_steps=0",
        ],
    )  # fmt: skip
    loop.train(config, tmp_path / "run", strategy=tf.distribute.OneDeviceStrategy("/cpu:0"))
    assert list((tmp_path / "run" / "checkpoints").glob("*.index"))
