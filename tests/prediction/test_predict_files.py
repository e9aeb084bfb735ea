"""What `fcis predict` writes, from a run of random weights."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco_mask

from fcis_tf.labels import Labels
from fcis_tf.prediction.output import OutputOptions
from fcis_tf.prediction.predict_files import predict_files
from fcis_tf.prediction.video import read_frames
from fcis_tf.weights.weight_files import save_weights
from tests.prediction.test_detector import build
from tests.prediction.test_video import frames, write

SCORE = 0.27


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Everything at once: two images, one of them tiled, and a video."""
    tf.keras.utils.set_random_seed(1)
    folder, rng = tmp_path_factory.mktemp("draw"), np.random.default_rng(0)
    run, source = folder / "run", folder / "source"
    run.mkdir(), source.mkdir()
    model = build("data.validation_factor=1.0")
    model.config.save(run / "config.yaml")
    Labels((3, 7, 9), ("disc", "block", "other")).save(run / "labels.json")
    save_weights(model, run / "best.weights.h5")
    for name, size in (("a", (60, 70)), ("wide", (64, 200))):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{name}.png")
    write(source / "film.mp4", frames(3))
    files = predict_files(
        run,
        [source],
        folder / "out",
        OutputOptions(SCORE, label_maps=True),
        overrides=["predict.tile=100", "predict.tile_overlap=30", "predict.batch_size=2"],
    )
    return files, folder / "out", source


def test_pictures_videos_label_maps_and_results(written):
    files, out, _ = written
    labels = ["a", "film_000000", "film_000001", "film_000002", "wide"]
    expected = {"a.png", "film.mp4", "wide.png"} | {f"{name}_labels.png" for name in labels}
    assert {file.name for file in files} == expected
    assert {file.name for file in out.iterdir()} == expected | {"predictions.json"}
    assert len(list(read_frames(out / "film.mp4"))) == 3
    found = json.loads((out / "predictions.json").read_text())
    names = {"a.png", "film.mp4#000000", "film.mp4#000001", "film.mp4#000002", "wide.png"}
    assert {row["image_id"] for row in found} == names


def test_label_maps_hold_the_masks_of_the_results(written):
    _, out, _ = written
    found = json.loads((out / "predictions.json").read_text())
    for name, image in (("a", "a.png"), ("wide", "wide.png"), ("film_000001", "film.mp4#000001")):
        rows = [row for row in found if row["image_id"] == image and row["score"] >= SCORE]
        assert len(rows) > 1
        masks = np.array([coco_mask.decode(row["segmentation"]) for row in rows], bool)
        numbers = np.asarray(Image.open(out / f"{name}_labels.png"))
        expected = np.where(masks.any(0), masks.argmax(0) + 1, 0)
        np.testing.assert_array_equal(numbers, expected)


def test_a_tiled_image_is_wholly_predicted(written):
    _, out, _ = written
    rows = json.loads((out / "predictions.json").read_text())
    boxes = np.array([row["bbox"] for row in rows if row["image_id"] == "wide.png"])
    assert boxes[:, 0].min() < 50 and (boxes[:, 0] + boxes[:, 2]).max() > 150
    assert (np.diff([row["score"] for row in rows if row["image_id"] == "wide.png"]) <= 0).all()


def test_only_the_requested_output_is_written(written, tmp_path):
    _, out, source = written
    run = source.parent / "run"
    files = predict_files(run, [source / "*.png"], tmp_path, OutputOptions(pictures=False), limit=1)
    assert files == [] and [file.name for file in tmp_path.iterdir()] == ["predictions.json"]
    rows = json.loads((tmp_path / "predictions.json").read_text())
    expected = json.loads((out / "predictions.json").read_text())
    expected = [row for row in expected if row["image_id"] == "a.png"]
    assert [row["segmentation"] for row in rows] == [row["segmentation"] for row in expected]
