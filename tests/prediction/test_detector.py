import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import load_config
from fcis_tf.errors import FcisError
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.rpn import merge_proposals
from fcis_tf.prediction.detector import Detector
from fcis_tf.structures import ImageInfo, Proposals
from tests import fixtures, oracle

SMALL = [
    *fixtures.TINY,
    "model.classes=3",
    "proposals.predict_count=12",
    "predict.max_detections=8",
    "predict.mask_size=14",
]
HEIGHT, WIDTH = 53, 70  # of no stride a multiple


def build(*changes, weights=None):
    model = FCIS.from_config(load_config(None, [*SMALL, *changes]))
    if weights:
        model.set_weights(weights)
    else:  # score maps that say something
        for weight in (*model.score_maps.trainable_weights, *model.rpn_head.trainable_weights):
            if "kernel" in weight.path:
                weight.assign(tf.random.stateless_normal(weight.shape, [3, 7], stddev=0.15))
    return model


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(1)
    return build()


@pytest.fixture
def image(rng):
    return tf.constant(rng.normal(scale=60, size=(1, HEIGHT, WIDTH, 3)), tf.float32)


def detect(members, image, rois=None):
    """What is found in one image, as arrays without empty slots; `rois` (n, 4) as proposals."""
    size = tf.constant([image.shape[1:3]], tf.float32)
    detector, original = Detector(members), tf.cast(size, tf.int32)
    if rois is None:
        found = detector.detect(image, size, tf.ones([1]), original)
    else:
        all_maps, valid = detector.compute_maps(image, size), tf.ones([1, len(rois)], tf.bool)
        both = detector.score_rois_twice(all_maps, tf.constant(rois[None]), valid, size)
        found = detector.postprocess(both, ImageInfo(size, tf.ones([1]), original))
    keep = found.valid[0].numpy()
    return [part[0].numpy()[keep] for part in found[:4]]


def mirrored(boxes):
    return np.stack([boxes[:, 0], WIDTH - boxes[:, 3], boxes[:, 2], WIDTH - boxes[:, 1]], -1)


def quarter_turned(boxes):
    y0, x0, y1, x1 = boxes.T
    return np.stack([WIDTH - x1, y0, WIDTH - x0, y1], 1)


@pytest.fixture
def rois(rng):
    return oracle.random_boxes(rng, (20,), low=0.0, high=50.0, least=8.0)


def test_the_mirror_image_gives_the_mirrored_instances(model, image, rois):
    flipping = build("predict.flip=true", weights=model.get_weights())
    boxes, scores, labels, masks = detect([flipping], image, rois)
    found = detect([flipping], image[:, :, ::-1], mirrored(rois))
    assert len(boxes) > 4
    np.testing.assert_allclose(found[0], mirrored(boxes), atol=2e-3)
    np.testing.assert_allclose(found[1], scores, atol=1e-5)
    np.testing.assert_array_equal(found[2], labels)
    np.testing.assert_allclose(found[3], masks[:, :, ::-1], atol=2e-3)
    # The network alone does not do that.
    alone = detect([model], image, rois)[1]
    other = detect([model], image[:, :, ::-1], mirrored(rois))[1]
    assert len(alone) != len(other) or np.abs(alone - other).max() > 1e-3


def test_a_turned_image_gives_the_turned_instances(model, image, rois):
    turning = build("predict.turn=true", weights=model.get_weights())
    boxes, scores, labels, masks = detect([turning], image, rois)
    turned = tf.transpose(image, [0, 2, 1, 3])[:, ::-1]
    found = detect([turning], turned, quarter_turned(rois))
    np.testing.assert_allclose(found[0], quarter_turned(boxes), atol=2e-3)
    np.testing.assert_allclose(found[1], scores, atol=1e-5)
    np.testing.assert_array_equal(found[2], labels)
    np.testing.assert_allclose(found[3], np.rot90(masks, axes=(1, 2)), atol=2e-3)


def test_an_answer_is_the_mean_of_the_answers_of_image_and_mirror_image(rng, model, image):
    """By NumPy, from what the network reads of either; masks are of the class best on average."""
    flipping = build("predict.flip=true", weights=model.get_weights())
    detector = Detector([flipping])
    size = tf.constant([[HEIGHT, WIDTH]], tf.float32)
    rois = oracle.random_boxes(rng, (1, 20), low=0.0, high=50.0, least=8.0)
    found = detector.score_rois(detector.compute_maps(image, size), tf.constant(rois), size)
    maps = model(image), model(image[:, :, ::-1])
    where = tf.constant(rois), tf.constant(mirrored(rois[0])[None])
    heads = [model.score_rois(m, w) for m, w in zip(maps, where, strict=True)]
    classes = np.mean([oracle.softmax(h.class_logits[0].numpy()) for h in heads], 0)
    np.testing.assert_allclose(oracle.softmax(found.class_logits[0].numpy()), classes, atol=1e-5)
    deltas = np.mean([heads[0].box_deltas[0], heads[1].box_deltas[0] * [1, -1, 1, 1]], 0)
    np.testing.assert_allclose(found.box_deltas[0], deltas, atol=1e-5)
    best = 1 + classes[:, 1:].argmax(-1)
    own = [1 + h.class_logits[0].numpy()[:, 1:].argmax(-1) for h in heads]
    assert (own[0] != best).any() or (own[1] != best).any()
    label = tf.constant(best[None], tf.int32)
    masks = [model.score_rois(m, w, label).mask_logits[0] for m, w in zip(maps, where, strict=True)]
    inside = [oracle.softmax(m.numpy())[..., 1] for m in masks]
    expected = (inside[0] + inside[1][:, :, ::-1]) / 2
    np.testing.assert_allclose(
        oracle.softmax(found.mask_logits[0].numpy())[..., 1], expected, atol=1e-5
    )


def test_a_network_beside_itself_changes_nothing(model, image):
    for one, two in zip(detect([model], image), detect([model, model], image), strict=True):
        np.testing.assert_allclose(two, one, atol=2e-3)


def test_members_may_have_another_stride_and_orders_do_not_matter(model, image):
    coarse = build("model.output_stride=16", "model.anchor_sizes=[24]")
    first, second = detect([model, coarse], image), detect([coarse, model], image)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_allclose(two, one, atol=2e-3)
    assert np.abs(first[1] - detect([model], image)[1]).max() > 1e-3


def test_merged_proposals_are_those_of_one_suppression(rng):
    boxes = oracle.random_boxes(rng, (2, 1, 30), low=0.0, high=50.0, least=8.0)
    scores = rng.uniform(0.1, 1, (2, 1, 30)).astype(np.float32)
    valid = np.ones((2, 1, 30), bool)
    valid[1, :, 20:] = False
    parts = [Proposals(*map(tf.constant, part)) for part in zip(boxes, scores, valid, strict=True)]
    found = merge_proposals(parts, tf.constant([[50.0, 50.0]]), count=25, nms_threshold=0.5)
    together = np.concatenate([boxes[0, 0], boxes[1, 0, :20]])
    ranks = np.concatenate([scores[0, 0], scores[1, 0, :20]])
    kept = oracle.nms(together, ranks, 0.5)[:25]
    assert len(kept) < 50
    np.testing.assert_array_equal(found.valid[0], np.arange(25) < len(kept))
    np.testing.assert_allclose(found.boxes[0][: len(kept)], together[kept], atol=1e-5)


def test_members_that_cannot_be_averaged_are_refused(model):
    for change, found in (("model.classes=2", r"\(2, 9\)"), ("model.pooled_size=6", r"\(3, 6\)")):
        with pytest.raises(FcisError, match=f"same model.classes.*{found}"):
            Detector([model, build(change)])
