import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.data.pipeline import network_input
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.prediction.detector import Detector
from fcis_tf.prediction.load import load
from fcis_tf.prediction.multiscale import MultiScale
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.weights.weight_files import save_weights
from tests.prediction.test_detector import build

SIZE = ("data.validation_short_side=61", "data.validation_long_side=200")


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(1)
    return build(*SIZE)


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (53, 70, 3), dtype=np.uint8)


def variant(model, *changes):
    return build(*SIZE, *changes, weights=model.get_weights())


def test_one_scale_is_plain_prediction_bit_for_bit(model, image):
    plain = Predictor(model).predict_image(image)
    one = Predictor(variant(model, "predict.scales=[1.0]")).predict_image(image)
    assert len(plain.labels) > 4
    for name in ("boxes", "labels", "scores", "masks"):
        np.testing.assert_array_equal(getattr(one, name), getattr(plain, name))


def test_images_of_many_sizes_are_one_graph(model, rng):
    predictor = Predictor(variant(model, "predict.scales=[0.75,1.5]", "predict.scale_side=30"))
    for height in (50, 57, 64):
        predictor.predict_image(rng.integers(0, 256, (height, 70, 3), dtype=np.uint8))
    multi = predictor.multi_scale
    graphs = (multi.propose, multi.score_rois, multi.postprocess)
    assert [graph.experimental_get_tracing_count() for graph in graphs] == [1, 1, 1]


def test_each_roi_is_scored_at_its_own_scale(model, image):
    """By hand: every ROI read from its own whole image at its own scale, one at a time."""
    scales, side = (0.75, 1.0, 1.5), 30.0
    changed = variant(model, "predict.flip=true", f"predict.scales={list(scales)}")
    detector = Detector([changed])
    multi = MultiScale(detector, scales=scales, side=side)
    joined = {}

    def record(candidates, info, frames):
        joined.update(zip(("rois", "valid", "heads", "frames"), (*candidates, frames), strict=True))
        return detector.postprocess(candidates, info, frames)

    multi.postprocess = record
    multi.detect(image, changed.config.data)
    pixels, _ = network_input(image, changed.config.data)
    size = tf.constant([pixels.shape[:2]], tf.float32)
    proposals = detector.propose(detector.compute_maps(pixels[None], size), size)
    rois = proposals.boxes[0].numpy()[proposals.valid[0].numpy()]
    expected = {}
    for roi in rois:
        area = (roi[2] - roi[0]) * (roi[3] - roi[1])
        scale = min(scales, key=lambda s: abs(area * s * s - side * side))
        seen, _ = network_input(image, changed.config.data, relative=scale)
        size = tf.constant([seen.shape[:2]], tf.float32)
        all_maps = detector.compute_maps(seen[None], size)
        there = tf.constant(roi[None, None] * scale, tf.float32)
        there = tf.minimum(there, tf.concat([size, size], 1)[:, None])
        heads = detector.score_rois(all_maps, there, size)
        moved = changed.refine(there, heads, size)
        again = detector.score_rois(all_maps, moved, size)
        for place, said in ((there, heads), (moved, again)):
            key = tuple(np.round(place[0, 0].numpy() / scale, 1))
            expected[key] = said.class_logits[0, 0].numpy(), scale
    assert {scale for _, scale in expected.values()} == set(scales)
    assert len(joined["rois"][0]) == 2 * len(rois)
    logits = joined["heads"].class_logits[0].numpy()
    for roi, said, frame in zip(
        joined["rois"][0].numpy(), logits, joined["frames"][0].numpy(), strict=True
    ):
        wanted, scale = expected[tuple(np.round(roi, 1))]
        np.testing.assert_allclose(said, wanted, atol=2e-3)
        np.testing.assert_allclose(frame * scale, np.round(roi * scale), atol=1e-3)


def test_scales_without_rois_are_not_computed(model, image, monkeypatch):
    multi = MultiScale(Detector([model]), scales=(0.5, 1.0, 64.0), side=20.0)
    seen = []

    def recorded(image, data, relative=1.0):
        seen.append(relative)
        return network_input(image, data, relative)

    monkeypatch.setattr("fcis_tf.prediction.multiscale.network_input", recorded)
    found = multi.detect(image, model.config.data)
    assert found.valid.numpy().any() and 64.0 not in seen and set(seen) <= {0.5, 1.0}


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    """Two runs of the same classes, and one of others."""
    folder = tmp_path_factory.mktemp("runs")
    second = build(*SIZE, "model.output_stride=16", "model.anchor_sizes=[24]")
    for name, network, names in (
        ("a", model, "xyz"),
        ("b", second, "xyz"),
        ("other", second, "xyw"),
    ):
        (folder / name).mkdir()
        network.config.save(folder / name / "config.yaml")
        Labels((1, 2, 3), tuple(names)).save(folder / name / "labels.json")
        save_weights(network, folder / name / "best.weights.h5")
    return folder, second


def test_an_ensemble_is_named_by_configuration(model, runs):
    """By runs, or by weights for the configuration of the first."""
    folder, second = runs
    names = f"{folder}/b,{folder}/a/best.weights.h5"
    predictor = load(folder / "a", [f"predict.ensemble=[{names}]"])
    assert predictor.labels.names == ("x", "y", "z") and len(predictor.detector.members) == 3
    for member, expected in zip(predictor.detector.members, (model, second, model), strict=True):
        assert member.stride == expected.stride
        for found, weight in zip(member.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(found, weight)


def test_members_of_other_classes_are_refused(runs):
    folder, _ = runs
    with pytest.raises(FcisError, match="other has other classes"):
        load(folder / "a", [f"predict.ensemble=[{folder}/other]"])
    with pytest.raises(FcisError, match="no such weights"):
        load(folder / "a", ["predict.ensemble=[absent]"])
