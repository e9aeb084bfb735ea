"""Every stage against arrays of an independent implementation; see make_golden.py.

A value may differ by 1e-4 of the largest reference value; the largest difference of each stage is
printed at the end of the run and quoted in docs/parity.md.
"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import RELEASED, DataConfig, PredictConfig, load_config
from fcis_tf.data import resize_released
from fcis_tf.data.pipeline import network_input
from fcis_tf.geometry.anchors import cell_anchors, grid_anchors
from fcis_tf.geometry.paste import paste_masks
from fcis_tf.model import backbone
from fcis_tf.model.fcis import BOX_STD, FCIS
from fcis_tf.model.heads import read_heads
from fcis_tf.model.rpn import propose
from fcis_tf.ops.ps_assembly import ps_roi_pool
from fcis_tf.prediction.detector import Detector
from fcis_tf.prediction.voting_released import vote_released
from fcis_tf.structures import (
    AnchorTargets,
    Candidates,
    Heads,
    ImageInfo,
    Maps,
    Proposals,
    RoiTargets,
    Rpn,
)
from fcis_tf.training.distributed.strategy import mirrored_strategy
from fcis_tf.training.losses import keep_hardest, roi_losses, rpn_losses
from fcis_tf.training.optimizer import build_optimizer
from fcis_tf.training.step import TrainStep
from fcis_tf.training.targets import anchor_targets, roi_targets
from tests.golden import layout

K, P, CLASSES = 3, 9, 5
SIZES = (16.0, 32.0, 64.0)
RATIOS = (0.5, 1.0, 2.0)


def golden(stage):
    with np.load(Path(__file__).parent / f"{stage}.npz") as file:
        return dict(file)


def cases(stage, key):
    """The numbered cases of a stage as dictionaries without their number."""
    arrays = golden(stage)
    count = sum(name.rstrip("0123456789") == key for name in arrays)
    return [
        {name.removesuffix(str(n)): v for name, v in arrays.items() if name.endswith(str(n))}
        for n in range(count)
    ]


def unpack(bits, shape):
    return np.unpackbits(bits)[: int(np.prod(shape))].reshape(shape)


@pytest.fixture
def narrow(monkeypatch):
    """A ResNet of the units and widths that the reference has."""
    monkeypatch.setitem(backbone.BLOCKS, "resnet50", (1, 2, 2, 3))
    monkeypatch.setattr(backbone, "RESNET_WIDTHS", (4, 8, 16, 16))


def assign(weights, values):
    """Set each variable from {end of its path: value}; both must be used up."""
    values = dict(values)
    for variable in weights:
        name = "/".join(variable.path.split("/")[-2:])
        variable.assign(values.pop(name))
    assert not values


def tiny(*changes):
    return load_config(
        None,
        [
            "parity=released",
            "model.backbone=resnet50",
            f"model.classes={CLASSES - 1}",
            f"model.group_size={K}",
            f"model.pooled_size={P}",
            "model.rpn_channels=16",
            "model.head_channels=24",
            f"model.anchor_sizes={list(SIZES)}",
            "proposals.pre_nms=200",
            "proposals.train_count=30",
            "proposals.predict_count=30",
            "proposals.min_size=2",
            "predict.max_detections=20",
            *changes,
        ],
    )


# ---------------------------------------------------------------- stages


@pytest.mark.parametrize("case", cases("ps_roi_pool", "k"), ids=lambda c: f"k{c['k']}-p{c['p']}")
def test_ps_roi_pool(case, close):
    k, p, maps = int(case["k"]), int(case["p"]), case["maps"]
    depth = maps.shape[1] // k**2
    order = [(d * k + y) * k + x for y in range(k) for x in range(k) for d in range(depth)]
    rois = layout.boxes(case["rois"][:, 1:])
    index = tf.cast(case["rois"][:, 0], tf.int32)
    ours = tf.constant(layout.nhwc(maps[:, order]))
    with tf.GradientTape() as tape:
        tape.watch(ours)
        found = ps_roi_pool(ours, rois, index, group_size=k, pooled_size=p, stride=16)
    close("PS-ROI pooling", found, layout.nhwc(case["output"]))
    gradient = tape.gradient(found, ours, layout.nhwc(case["upstream"]))
    close("PS-ROI pooling, gradient", gradient, layout.nhwc(case["gradient"][:, order]))


def test_backbone(narrow, close):
    arrays = golden("backbone")
    model = backbone.build_backbone(
        "resnet50", norm="frozen_batch", output_stride=16, dtype="float32"
    )
    parameters = {n: v for n, v in arrays.items() if n.startswith(("conv1_w", "bn", "res"))}
    assign(model.weights, layout.weights(parameters, 1, 1, 1))
    for n in range(4):
        maps = model(arrays[f"image{n}"][None], training=True)
        for found, name in zip(maps, ("conv4", "conv5"), strict=True):
            close(f"backbone {name}", found, layout.nhwc(arrays[f"{name}_{n}"]))
    upstream = [layout.nhwc(arrays[f"upstream{stage}"]) for stage in (4, 5)]
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        maps = model(arrays["image1"][None], training=True)
    gradients = tape.gradient(maps, [v.value for v in variables], upstream)
    prefix = "gradient_"
    expected = layout.weights(
        {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}, 1, 1, 1
    )
    # What is trained: stages 3 to 5 with gamma and beta, nothing before.
    assert {"/".join(v.path.split("/")[-2:]) for v in variables} == set(expected)
    for variable, gradient in zip(variables, gradients, strict=True):
        close("backbone, gradients", gradient, expected["/".join(variable.path.split("/")[-2:])])


@pytest.mark.parametrize("case", cases("image", "raw"), ids=lambda c: str(c["raw"].shape[:2]))
def test_image(case, close):
    short, long = (int(side) for side in case["sides"])
    sides = {"validation_short_side": short, "validation_long_side": long}
    found, scale = network_input(case["raw"], DataConfig(resize="released", **sides))
    close("image", found, case["input"])
    assert float(scale) == pytest.approx(case["info"][2])
    exact, _ = network_input(case["raw"], DataConfig(resize="exact", **sides))
    # The default does not round to whole grey levels, and keeps more bits of the weights.
    assert np.abs(exact - case["input"]).max() < 0.9


def test_anchors(close):
    arrays = golden("rpn")
    for name, sizes in (("coco", (64, 128, 256, 512)), ("voc", (128, 256, 512))):
        found = grid_anchors(cell_anchors(sizes, RATIOS, 16), 3, 2, 16)
        close("anchors", found, layout.boxes(arrays[name]))


@pytest.mark.parametrize("case", cases("rpn", "truth"), ids=lambda c: f"{len(c['truth'])} objects")
def test_rpn_targets_and_losses(case, close):
    count = len(case["truth"])
    anchors = grid_anchors(cell_anchors(SIZES, RATIOS, 16), 6, 8, 16)
    batch = {
        "image_size": tf.constant([[96.0, 128.0]]),
        "boxes": tf.constant(layout.boxes(case["truth"])[None]),
        "labels": tf.ones([1, count], tf.int32),
        "seed": tf.zeros([1, 2], tf.int32),
    }
    settings = {"positive_iou": 0.7, "negative_iou": 0.3, "batch_size": 4096, "foreground": 0.5}
    targets = anchor_targets(anchors, batch, **settings)
    np.testing.assert_array_equal(targets.labels[0], case["labels"])
    positive = case["labels"] == 1
    expected = layout.deltas(case["deltas"])[positive]
    close("RPN targets", targets.deltas[0][positive], expected)

    logits, deltas = (tf.constant(x) for x in layout.rpn_outputs(case["scores"], case["boxes"]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([logits, deltas])
        losses = rpn_losses(
            Rpn(logits, deltas), AnchorTargets(targets.labels, targets.deltas), batch_size=256
        )
    close("RPN losses", [losses["rpn_class"], losses["rpn_box"]], case["losses"])
    expected = layout.rpn_outputs(case["scores_gradient"], case["boxes_gradient"])
    close("RPN losses, gradients", tape.gradient(losses["rpn_class"], logits), expected[0])
    close("RPN losses, gradients", tape.gradient(losses["rpn_box"], deltas), expected[1])


@pytest.mark.parametrize("case", cases("proposals", "size"), ids=lambda c: str(c["size"]))
def test_proposals(case, close):
    logits, deltas = layout.rpn_outputs(case["scores"], case["deltas"])
    rows, columns = case["scores"].shape[2:]
    found = propose(
        Rpn(tf.constant(logits), tf.constant(deltas)),
        grid_anchors(cell_anchors(SIZES, RATIOS, 16), rows, columns, 16),
        tf.cast(case["size"][None], tf.float32),
        count=40,
        pre_nms=150,
        nms_threshold=0.7,
        min_size=12,
        stride=16,
    )
    valid = found.valid[0].numpy()
    close("proposals", found.boxes[0][valid], layout.boxes(case["proposals"]))
    close("proposals, scores", found.scores[0][valid], case["probability"])


@pytest.mark.parametrize("case", cases("roi_targets", "p"), ids=lambda c: f"x{c['factor']}")
def test_roi_targets(case, close):
    height, width = (int(side) for side in case["original"])
    masks = unpack(case["masks"], (4, height, width))
    example = resize_released.resize(
        {
            "image": tf.zeros([height, width, 3], tf.uint8),
            "boxes": tf.constant(layout.boxes(case["boxes"])),
            "masks": tf.constant(masks),
        },
        tf.constant(float(case["factor"]), tf.float64),
    )
    np.testing.assert_array_equal(example["boxes"], layout.boxes(case["truth"]))
    close("resized masks", example["masks"][1], case["resized"])
    proposed = layout.boxes(case["proposed"])[None]
    found = roi_targets(
        Proposals(proposed, np.zeros(proposed.shape[:2]), np.ones(proposed.shape[:2], bool)),
        {
            "boxes": example["boxes"][None],
            "labels": tf.cast(case["classes"][None], tf.int32),
            "masks": example["masks"][None],
            "seed": tf.zeros([1, 2], tf.int32),
        },
        BOX_STD,
        sampling="ohem",
        batch_size=128,
        foreground=0.25,
        positive_iou=0.5,
        background_iou=float(case["low"]),
        top_up=False,
        pooled_size=int(case["p"]),
    )
    # The reference puts foreground first and leaves out what is neither.
    ours = {tuple(np.round(roi, 3)): i for i, roi in enumerate(found.rois[0].numpy())}
    order = [ours[tuple(np.round(roi, 3))] for roi in layout.boxes(case["rois"])]
    labels = found.labels[0].numpy()
    np.testing.assert_array_equal(labels[order], case["labels"])
    assert (np.delete(labels, order) == -1).all()
    positive = case["labels"] > 0
    assert positive.sum() > 10
    deltas = found.deltas[0].numpy()[order]
    close("ROI box targets", deltas[positive], layout.deltas(case["deltas"])[positive])
    targets = found.masks[0].numpy()[order][positive]
    np.testing.assert_array_equal(targets, case["targets"][positive])


@pytest.mark.parametrize("case", cases("heads", "k"), ids=lambda c: f"k{c['k']}-p{c['p']}")
def test_heads_losses_and_hard_examples(case, close):
    k, p, classes = int(case["k"]), int(case["p"]), case["logits"].shape[1]
    score_order, box_order = layout.score_channels(k, classes), layout.box_channels(k)
    scores = tf.constant(layout.nhwc(case["score_maps"][:, score_order]))
    boxes = tf.constant(layout.nhwc(case["box_maps"][:, box_order]))
    rois = tf.constant(layout.boxes(case["rois"])[None])
    labels = tf.cast(case["labels"][None], tf.int32)
    geometry = {"group_size": k, "pooled_size": p, "stride": 16}
    targets = RoiTargets(
        rois,
        labels,
        tf.constant(layout.deltas(case["deltas"]).astype(np.float32)[None]),
        tf.cast(tf.maximum(case["targets"][None], 0), tf.int32),
    )
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([scores, boxes])
        heads = read_heads(Maps(None, scores, boxes), rois, labels, **geometry)
        kept = keep_hardest(heads, targets, count=12, mask_weight=10.0)
        losses = roi_losses(heads, kept, batch_size=12, mask_weight=10.0)
    close("class logits", heads.class_logits[0], case["logits"])
    close("box deltas", heads.box_deltas[0], layout.deltas(case["box"]))
    inside = tf.nn.softmax(heads.mask_logits)[0, ..., 1]
    close("mask probabilities", inside, case["inside"])
    best = read_heads(Maps(None, scores, boxes), rois, **geometry)
    inside = tf.nn.softmax(best.mask_logits)[0, ..., 1]
    close("mask probabilities of the best class", inside, case["inside_best"])
    np.testing.assert_array_equal(kept.labels[0], case["carried"])
    found = [losses[f"roi_{name}"] for name in ("class", "mask", "box")]
    close("ROI losses", found, case["losses"])
    zero = tf.UnconnectedGradients.ZERO
    for name in ("class", "mask", "box"):
        by_scores, by_boxes = tape.gradient(
            losses[f"roi_{name}"], [scores, boxes], unconnected_gradients=zero
        )
        expected = layout.nhwc(case[f"{name}_score_gradient"][:, score_order])
        close(f"ROI losses, gradient of {name}", by_scores, expected)
        expected = layout.nhwc(case[f"{name}_box_gradient"][:, box_order])
        close(f"ROI losses, gradient of {name}", by_boxes, expected)


@pytest.mark.parametrize("processor", ["gpu", "cpu"])
@pytest.mark.parametrize("case", cases("voting", "factor"), ids=lambda c: f"x{c['factor']}")
def test_voting(case, processor, close):
    inside = case["masks"].astype(np.float64)
    logit = np.log(inside / (1 - inside))
    size, factor = case["size"].astype(np.float64), float(case["factor"])
    candidates = Candidates(
        tf.constant(layout.boxes(case["rois"])[None]),
        tf.ones([1, len(case["rois"])], tf.bool),
        Heads(
            class_logits=tf.constant(np.log(case["prob"])[None]),
            box_deltas=None,
            mask_logits=tf.constant(np.stack([0 * logit, logit], -1)[None], tf.float32),
        ),
    )
    info = ImageInfo(
        size=tf.constant(size[None], tf.float32),
        scale=tf.constant([factor], tf.float32),
        original_size=None,
    )
    settings = PredictConfig(
        voting="released" if processor == "gpu" else "released_cpu",
        min_size=2,
        nms_threshold=0.3,
        max_detections=12,
        score_threshold=1e-3,
        vote_iou=0.5,
        mask_threshold=0.4,
    )
    found = vote_released(candidates, info, settings)
    height, width = (int(side) for side in np.rint(size / factor))
    expected = {
        name: case[f"{processor}_{name}"] for name in ("class", "score", "box", "mask", "picture")
    }
    order = np.argsort(-expected["score"])
    valid = found.valid[0].numpy()
    np.testing.assert_array_equal(found.labels[0][valid], expected["class"][order])
    close("voting, scores", found.scores[0][valid], expected["score"][order])
    close("voting, boxes", found.boxes[0][valid], layout.boxes(expected["box"][order]))
    close("voting, masks", found.masks[0][valid], expected["mask"][order])
    pictures = unpack(expected["picture"], (len(order), height, width))[order]
    pasted = paste_masks(
        found.masks[0].numpy()[valid], found.boxes[0].numpy()[valid], height, width, 0.4
    )
    # A value of exactly the threshold may fall to either side.
    assert (pasted != pictures).sum() <= 1e-4 * pictures.sum()


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


@pytest.mark.parametrize("devices", [1, 2])
def test_trajectory(narrow, close, devices):
    """Five optimiser steps of two images: every loss of every step, and all weights at the end.

    The reference sums the gradients of its images, as the released code does over its devices.
    """
    strategy = tf.distribute.get_strategy()
    if devices == 2:
        strategy = mirrored_strategy("/cpu:0", "/cpu:1")
    arrays = golden("trajectory")
    config = tiny(
        "train.learning_rate=2e-3",
        "train.warmup_steps=0",
        "train.drops=[]",
        "train.rpn_batch=4096",
        "train.roi_batch=16",
    )
    with strategy.scope():
        model = FCIS.from_config(config)
        optimizer = build_optimizer(config.train)
    prefix = "initial_"
    initial = {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
    assign(model.weights, layout.weights(initial, K, CLASSES, 9))
    truth = [np.stack([arrays[f"{name}{n}"] for n in range(2)]) for name in ("boxes", "classes")]
    masks = np.stack([unpack(arrays[f"masks{n}"], (3, 96, 128)) for n in range(2)])
    batch = {
        "image": arrays["images"],
        "image_size": np.array([[96.0, 128.0]] * 2, np.float32),
        "boxes": layout.boxes(truth[0]),
        "labels": truth[1].astype(np.int32),
        "masks": masks.astype(np.float32),
        "seed": np.zeros([2, 2], np.int32),
    }
    step = TrainStep(model, optimizer, strategy, config.train)
    data = tf.data.Dataset.from_tensor_slices(batch).batch(2).repeat()
    batches = iter(strategy.experimental_distribute_dataset(data))
    names = ("rpn_class", "rpn_box", "roi_class", "roi_mask", "roi_box")
    assert len(arrays["losses"]) == 5
    for expected in arrays["losses"].mean(1):
        (losses,) = step(batches)
        close("trajectory, losses", [losses[name] for name in names], expected)
    prefix = "final_"
    final = {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
    final = layout.weights(final, K, CLASSES, 9)
    start = layout.weights(initial, K, CLASSES, 9)
    for variable in model.weights:
        name = "/".join(variable.path.split("/")[-2:])
        if name in final:
            close("trajectory, weights", variable.numpy(), final[name])
            moved = final[name] - start[name]
            error = np.abs(variable.numpy() - final[name]).max()
            assert error < 1e-2 * np.abs(moved).max(), f"{name} moved by {np.abs(moved).max()}"
        else:
            np.testing.assert_array_equal(variable.numpy(), start[name])


def test_the_released_mode_sets_every_spot_in_use_here():
    config = load_config(None, ["parity=released"])
    for section, values in RELEASED.items():
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value
            assert getattr(getattr(load_config(), section), key) != value
