"""One image through the whole network in released mode."""

import numpy as np
import tensorflow as tf

from fcis_tf.config import RELEASED, load_config
from fcis_tf.geometry.paste import paste_masks
from fcis_tf.model.fcis import FCIS
from fcis_tf.prediction.detector import Detector
from tests.golden import layout
from tests.golden.arrays import CLASSES, K, assign, golden, tiny, unpack


def test_end_to_end(narrow, close):
    arrays = golden("end_to_end")
    model = FCIS.from_config(tiny())
    parameters = {
        name: value
        for name, value in arrays.items()
        if name.endswith(("_weight", "_bias", "_gamma", "_beta", "_mean", "_var"))
    }
    assign(model.weights, layout.weights(parameters, K, CLASSES, 9))
    image, size = arrays["image"][None], tf.constant([[96.0, 128.0]])
    maps = model(image)
    close("end to end, score maps", maps.scores, layout.nhwc(
        arrays["fcis_cls_seg"][:, layout.score_channels(K, CLASSES)]
    ))  # fmt: skip
    close("end to end, box maps", maps.boxes, layout.nhwc(
        arrays["fcis_bbox"][:, layout.box_channels(K)]
    ))  # fmt: skip
    logits, deltas = layout.rpn_outputs(arrays["rpn_cls_score"], arrays["rpn_bbox_pred"])
    close("end to end, RPN", maps.rpn.logits, logits)
    close("end to end, RPN", maps.rpn.deltas, deltas)
    proposals = model.propose(maps, size)
    expected = layout.boxes(arrays["proposals"])
    close("end to end, proposals", proposals.boxes[0], expected)
    heads = model.score_rois(maps, proposals.boxes)
    refined = model.refine(proposals.boxes, heads, size)
    again = model.score_rois(maps, refined)
    rois = tf.concat([proposals.boxes, refined], 1)[0]
    close("end to end, refined ROIs", rois, layout.boxes(arrays["rois"]))
    prob = tf.nn.softmax(tf.concat([heads.class_logits, again.class_logits], 1))[0]
    close("end to end, class probabilities", prob, arrays["prob"])
    masks = tf.nn.softmax(tf.concat([heads.mask_logits, again.mask_logits], 1))[0, ..., 1]
    close("end to end, mask probabilities", masks, arrays["masks"])

    found = Detector([model]).detect(image, size, tf.ones([1]), tf.constant([[96, 128]]))
    valid = found.valid[0].numpy()
    order = np.argsort(-arrays["detected_score"])
    np.testing.assert_array_equal(found.labels[0][valid], arrays["detected_class"][order])
    close("end to end, scores", found.scores[0][valid], arrays["detected_score"][order])
    close("end to end, boxes", found.boxes[0][valid], layout.boxes(arrays["detected_box"][order]))
    pictures = unpack(arrays["picture"], (len(order), 96, 128))[order] > 0
    pasted = paste_masks(found.masks[0].numpy()[valid], found.boxes[0].numpy()[valid], 96, 128, 0.4)
    overlap = (pasted & pictures).sum((1, 2)) / (pasted | pictures).sum((1, 2))
    close("end to end, 1 - mask IoU", overlap, np.ones(len(order)))


def test_the_released_mode_sets_every_spot_in_use_here():
    config = load_config(None, ["parity=released"])
    for section, values in RELEASED.items():
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value
            assert getattr(getattr(load_config(), section), key) != value
