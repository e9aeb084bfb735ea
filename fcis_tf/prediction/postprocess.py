"""From scored ROIs to instances: suppression, then mask voting (paper section 2.3)."""

import tensorflow as tf

from fcis_tf.config import PredictConfig
from fcis_tf.geometry import boxes as box_ops
from fcis_tf.prediction.suppression import class_scores, suppress
from fcis_tf.prediction.voting import Voters, inside_probabilities, vote, weigh_by_masks
from fcis_tf.prediction.voting_released import vote_released
from fcis_tf.structures import Candidates, Detections, ImageInfo, Tensor


def postprocess(
    candidates: Candidates,
    info: ImageInfo,
    settings: PredictConfig,
    frames: Tensor | None = None,
) -> Detections:
    """Suppress duplicates class by class, then let overlapping ROIs vote for each mask.

    Args:
        candidates: the ROIs of all passes, in network pixels, and what was read of them.
        info: sizes and scale of the images.
        settings: how; every value but those of scales, views and tiles is read.
        frames: (B, N, 4) boxes that the masks span, in network pixels; by default the whole pixels
            of the ROIs, where their bins were pooled. ``voting: released`` does not read it.

    Returns:
        Detections in original pixels, best first.
    """
    if settings.voting.startswith("released"):
        return vote_released(candidates, info, settings)
    voters = in_original_pixels(candidates, info, settings, frames)
    kept = suppress(voters.boxes, voters.scores, settings)
    detections = vote(voters, kept, tf.cast(info.original_size, tf.float32), settings)
    if settings.maskness:
        detections = weigh_by_masks(detections, settings.mask_threshold)
    return detections


def in_original_pixels(
    candidates: Candidates,
    info: ImageInfo,
    settings: PredictConfig,
    frames: Tensor | None = None,
) -> Voters:
    """The candidates as voters, with boxes in original pixels; arguments as in `postprocess`."""
    scale = info.scale[:, None, None]
    limits = tf.cast(info.original_size, tf.float32)[:, None, :]
    frames = tf.round(candidates.rois) if frames is None else frames
    return Voters(
        boxes=box_ops.clip(candidates.rois / scale, limits),
        frames=frames / scale,
        scores=class_scores(candidates, settings.min_size),
        masks=inside_probabilities(candidates.heads.mask_logits),
    )
