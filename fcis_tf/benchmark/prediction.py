"""Time of prediction, by stage and as a whole in several variants."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fcis_tf.benchmark.network import as_predicted
from fcis_tf.benchmark.timing import Seconds, take_turns
from fcis_tf.config import Config
from fcis_tf.data.pipeline import network_input
from fcis_tf.geometry.paste import paste_cutouts
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.fold import fold
from fcis_tf.ops.library import use_custom
from fcis_tf.prediction.postprocess import in_original_pixels
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.prediction.suppression import suppress
from fcis_tf.prediction.voting import vote
from fcis_tf.structures import Candidates, Heads, ImageInfo, Maps

WHOLE, CONVOLUTIONS, CONFIGURED = "whole", "convolutions alone", "as configured"


class Stages:
    """The steps of `Detector.detect` and of pasting as separate graphs with fixed inputs.

    Args:
        model: as `Predictor` takes it; with soft, binary or no voting.
        image: (H, W, 3) uint8 RGB.
    """

    def __init__(self, model: FCIS, image: np.ndarray) -> None:
        settings = model.config.predict
        pixels, size, scale = as_predicted(image, model.config)
        info = ImageInfo(size, scale, tf.constant([image.shape[:2]], tf.int32))
        limits = tf.cast(info.original_size, tf.float32)
        self.graphs: dict[str, Callable[[], Any]] = {}

        def stage(name: str, function: Callable[..., Any], *inputs: Any) -> Any:
            graph = tf.function(function)
            self.graphs[name] = lambda: graph(*inputs)
            return graph(*inputs)

        def second_pass(maps: Maps, rois: Any, heads: Heads) -> tuple[Any, Heads]:
            refined = model.refine(rois, heads, size)
            return refined, model.score_rois(maps, refined)

        def nms(candidates: Candidates) -> Any:
            voters = in_original_pixels(candidates, info, settings)
            return voters, suppress(voters.boxes, voters.scores, settings)

        def voting(voters: Any, kept: Any) -> Any:
            return vote(voters, kept, limits, settings)

        self.graphs["resize"] = lambda: network_input(image, model.config.data)
        conv4, conv5 = stage("backbone", lambda x: model.backbone(x, training=False), pixels)
        rpn = stage("RPN", model.rpn_head, conv4)
        scores, boxes = stage("head convolutions", model.score_maps, conv5)
        maps = Maps(rpn, scores, boxes)
        proposals = stage("proposals", lambda maps: model.propose(maps, size), maps)
        self.proposals = int(tf.math.count_nonzero(proposals.valid))
        rois, valid = proposals.boxes, proposals.valid
        heads = stage("assembly, pass 1", model.score_rois, maps, rois)
        if settings.iterations == 2:
            again, heads2 = stage("assembly, pass 2", second_pass, maps, rois, heads)
            rois, valid = tf.concat([rois, again], 1), tf.concat([valid, valid], 1)
            heads = Heads(*(tf.concat(pair, 1) for pair in zip(heads, heads2, strict=True)))
        voters, kept = stage("NMS", nms, Candidates(rois, valid, heads))
        self.detections = stage("voting", voting, voters, kept)
        boxes, _, _, masks, present = (part[0].numpy() for part in self.detections)
        votes, frames = masks[present], boxes[present]
        height, width = image.shape[:2]
        self.graphs["paste"] = lambda: paste_cutouts(
            votes, frames, height, width, settings.mask_threshold
        )
        convolutions = tf.function(lambda x: model(x, training=False))
        self.graphs[CONVOLUTIONS] = lambda: convolutions(pixels)


def measure_stages(
    model: FCIS, image: np.ndarray, *, rounds: int, progress: Any = None
) -> tuple[dict[str, Seconds], dict[str, int]]:
    """Seconds by stage, of all convolutions in one graph and of the whole, from image to masks.

    Args:
        model: the network, not folded.
        image: (H, W, 3) uint8 RGB.
        rounds: see `take_turns`.
        progress: see `take_turns`.

    Returns:
        Seconds by name, and the numbers of proposals and detections.
    """
    folded = fold(model)
    stages, predictor = Stages(folded, image), Predictor(folded)
    work = {**stages.graphs, WHOLE: lambda: predictor.predict_image(image)}
    counts = {
        "proposals": stages.proposals,
        "detections": int(tf.math.count_nonzero(stages.detections.valid)),
    }
    return take_turns(work, rounds=rounds, progress=progress), counts


def variants(
    model: FCIS, rois: Sequence[int], precisions: Sequence[str] = ("bfloat16",)
) -> dict[str, Predictor]:
    """Predictors that each differ in one setting from the configured one, which is the first.

    Args:
        model: the configured network.
        rois: numbers of proposals.
        precisions: of the convolutions.
    """
    config = model.config
    made = {CONFIGURED: Predictor(fold(model))}
    if config.model.norm != "group":
        made["batch norm not folded"] = Predictor(model)
    if use_custom():
        made["stock operations"] = Predictor(fold(_variant(model, config, ops="stock")))
    for precision in precisions:
        if precision != model.precision:
            made[precision] = Predictor(fold(_variant(model, config, precision=precision)))
    for count in rois:
        if count != config.proposals.predict_count:
            part = config.proposals.model_copy(update={"predict_count": count})
            other = config.model_copy(update={"proposals": part})
            made[f"{count} ROIs"] = Predictor(fold(_variant(model, other)))
    return made


def measure_variants(
    model: FCIS, image: np.ndarray, rois: Sequence[int], *, rounds: int, progress: Any = None
) -> dict[str, Seconds]:
    """Seconds of the whole prediction of one image by variant."""

    def work(predictor: Predictor) -> Callable[[], Any]:
        return lambda: predictor.predict_image(image)

    made = variants(model, rois)
    return take_turns(
        {name: work(one) for name, one in made.items()}, rounds=rounds, progress=progress
    )


def _variant(model: FCIS, config: Config, **options: Any) -> FCIS:
    """A network of the same weights."""
    options = {"precision": model.precision, "ops": model.geometry["impl"]} | options
    other = FCIS.from_config(config, **options)
    other.set_weights(model.get_weights())
    return other
