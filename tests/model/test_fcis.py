import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import load_config
from fcis_tf.errors import FcisError
from fcis_tf.model.fcis import BOX_STD, FCIS
from fcis_tf.prediction.detector import Detector
from fcis_tf.weights.weight_files import load_weights, save_weights
from tests import fixtures, oracle

SMALL = [
    *fixtures.TINY,
    "model.classes=3",
    "proposals.predict_count=20",
    "predict.max_detections=10",
    "predict.mask_size=14",
]


def build(*changes):
    return FCIS.from_config(load_config(None, [*SMALL, *changes]))


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(1)
    return build()


def images(rng, count=3, side=64):
    return tf.constant(rng.normal(scale=60, size=(count, side, side, 3)), tf.float32)


def detect(model, image, sides=None):
    count, side = image.shape[0], image.shape[1]
    size = tf.fill([count, 2], float(sides or side))
    return Detector([model]).detect(image, size, tf.ones([count]), tf.cast(size, tf.int32))


def test_a_batch_gives_what_its_images_give(rng, model):
    image = images(rng)
    together = detect(model, image)
    for i in range(3):
        alone = detect(model, image[i : i + 1])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[i], b[0], atol=2e-3)


def test_graph_equals_eager(rng, model):
    image = images(rng, 2)
    size = tf.fill([2, 2], 64.0)
    args = (image, size, tf.ones([2]), tf.cast(size, tf.int32))
    detect_all = Detector([model]).detect
    for a, b in zip(detect_all(*args), tf.function(detect_all)(*args), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_anchors_match_the_outputs_of_the_rpn(rng, model):
    maps = model(images(rng, 1, 72))
    anchors = model.anchors(maps)
    assert len(anchors) == maps.rpn.logits.shape[1] == maps.rpn.deltas.shape[1] == 9 * 9 * 6


def test_the_second_pass_reads_the_refined_rois(rng, model):
    """The candidates of two passes are the proposals and the decoded, clipped proposals."""
    image, size = images(rng, 1), tf.fill([1, 2], 64.0)
    maps = model(image)
    rois = model.propose(maps, size).boxes
    heads = model.score_rois(maps, rois)
    refined = model.refine(rois, heads, size)[0].numpy()
    for roi, delta, found in zip(
        rois[0].numpy(), heads.box_deltas[0].numpy(), refined, strict=True
    ):
        side = roi[2:] - roi[:2]
        center = (roi[:2] + roi[2:]) / 2 + delta[:2] * BOX_STD[:2] * side
        half = np.exp(delta[2:] * BOX_STD[2:]) * side / 2
        expected = np.clip(np.r_[center - half, center + half], 0, 64)
        np.testing.assert_allclose(found, expected, atol=1e-3)
    one, two = build("predict.iterations=1"), build()
    for other in (one, two):
        other.set_weights(model.get_weights())
    best = [float(detect(m, image).scores[0, 0]) for m in (one, two)]
    top = [
        oracle.softmax(model.score_rois(maps, r).class_logits[0].numpy())[:, 1:].max()
        for r in (rois, tf.constant(refined[None]))
    ]
    assert best[0] == pytest.approx(top[0], abs=1e-5)
    assert best[1] == pytest.approx(max(top), abs=1e-5)


def test_heads_read_joint_maps_of_inside_and_outside(rng, model):
    maps = model(images(rng, 1))
    roi = tf.constant([[[8.0, 8.0, 40.0, 48.0]]])
    heads = model.score_rois(maps, roi, tf.constant([[2]]))
    pooled = oracle.ps_roi_pool(maps.scores.numpy(), roi[0].numpy(), [0], 3, 9, 8)
    pooled = pooled.reshape(9, 9, 2, 4)
    np.testing.assert_allclose(heads.class_logits[0, 0], pooled.max(2).mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(heads.mask_logits[0, 0], pooled[..., 2], atol=1e-5)
    boxes = oracle.ps_roi_pool(maps.boxes.numpy(), roi[0].numpy(), [0], 3, 9, 8)
    np.testing.assert_allclose(heads.box_deltas[0, 0], boxes[0].mean((0, 1)), atol=1e-5)


def test_bfloat16_is_close_to_float32(rng, model):
    half = build("train.precision=bfloat16")
    half.set_weights(model.get_weights())
    image = images(rng, 1)
    a, b = model(image).scores, tf.cast(half(image).scores, tf.float32)
    assert half(image).scores.dtype == tf.bfloat16
    assert np.abs(a - b).max() < 0.05 * np.abs(a).max()
    assert detect(half, image).scores.dtype == tf.float32


def test_weights_come_back_and_others_are_refused(rng, model, tmp_path):
    path = tmp_path / "a.weights.h5"
    save_weights(model, path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.weights.h5"]
    other = build()
    load_weights(other, path)
    image = images(rng, 1)
    np.testing.assert_array_equal(other(image).scores, model(image).scores)
    with pytest.raises(FcisError, match="another model configuration"):
        load_weights(build("model.classes=5"), path)
    with pytest.raises(FcisError, match="no such weights"):
        load_weights(other, tmp_path)
    path.write_bytes(b"nonsense")
    with pytest.raises(FcisError, match="not a Keras weight file"):
        load_weights(other, path)


def test_the_number_of_classes_must_be_known():
    with pytest.raises(FcisError, match="model.classes"):
        build("model.classes=null")


def test_whole_resnet_detects_in_graph_mode(rng):
    """ResNet-50 with the paper's heads, on an image whose sides are odd."""
    config = load_config(
        None,
        [
            "model.backbone=resnet50",
            "model.norm=group",
            "model.classes=2",
            "proposals.predict_count=8",
        ],
    )
    net = FCIS.from_config(config)
    image = tf.constant(rng.normal(scale=60, size=(1, 131, 97, 3)), tf.float32)
    found = tf.function(Detector([net]).detect)(
        image, tf.constant([[131.0, 97.0]]), tf.constant([0.5]), tf.constant([[262, 194]])
    )
    boxes = found.boxes[0].numpy()[found.valid[0].numpy()]
    assert len(boxes) and (boxes >= 0).all() and (boxes <= [262, 194, 262, 194]).all()
    assert net(image).scores.shape[1:] == (9, 6, 49 * 2 * 3)
