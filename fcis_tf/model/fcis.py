"""FCIS: one fully convolutional network whose maps answer detection and segmentation together.

All weights are in `FCIS.call`, which turns images into maps. What follows, proposals and per-ROI
assembly, is arithmetic on those maps (paper section 3).
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fcis_tf.allocator import keep_freed_memory
from fcis_tf.config import Config, ModelConfig, PredictConfig, ProposalConfig
from fcis_tf.errors import FcisError
from fcis_tf.geometry import boxes as box_ops
from fcis_tf.geometry.anchors import cell_anchors, grid_anchors
from fcis_tf.model.backbone import build_backbone, freeze
from fcis_tf.model.heads import ScoreMaps, read_heads
from fcis_tf.model.rpn import RpnHead, propose
from fcis_tf.structures import Heads, Maps, Proposals, Tensor

# Box deltas are learnt in units of these (dy, dx, dh, dw) (spec section 3.3).
BOX_STD = np.array([0.2, 0.2, 0.5, 0.5], np.float32)


class FCIS(keras.Model):
    """The network, and the steps from its maps to detections.

    Args:
        model: what to build; `classes` must be a number here.
        proposals: how ROIs are proposed.
        predict: how detections are made.
        precision: float32, bfloat16 or float16 for the convolutions; everything per ROI is float32.
        ops: "auto", "custom" or "stock" operations for what ROIs read, as `ops.ps_assemble`.
    """

    def __init__(
        self,
        model: ModelConfig,
        proposals: ProposalConfig,
        predict: PredictConfig,
        *,
        precision: str = "float32",
        ops: str = "auto",
        **options: Any,
    ) -> None:
        keep_freed_memory()  # every verb and every test that computes anything passes here
        dtype = "float32" if precision == "float32" else f"mixed_{precision}"
        super().__init__(dtype=dtype, **options)
        if model.classes is None:
            raise FcisError("model.classes: expected a number of foreground classes, found null")
        self.precision = precision
        self.stride, self.classes = model.output_stride, model.classes
        self.geometry: dict[str, Any] = {
            "impl": ops,
            "group_size": model.group_size,
            "pooled_size": model.pooled_size,
            "stride": model.output_stride,
        }
        self.score_map_kind = model.score_maps
        self.proposal_config, self.predict_config = proposals, predict
        self.cell_anchors = cell_anchors(model.anchor_sizes, model.anchor_ratios, self.stride)
        self.backbone = build_backbone(
            model.backbone, norm=model.norm, output_stride=model.output_stride, dtype=dtype
        )
        self.rpn_head = RpnHead(
            len(self.cell_anchors), channels=model.rpn_channels, init=model.head_init, dtype=dtype
        )
        self.score_maps = ScoreMaps(
            model.classes,
            group_size=model.group_size,
            channels=model.head_channels,
            init=model.head_init,
            dtype=dtype,
        )

    @classmethod
    def from_config(
        cls, config: Config | dict[str, Any], *, precision: str | None = None, ops: str = "auto"
    ) -> "FCIS":
        """Build the network and its weights; `precision`, by default that of training, and `ops`
        as above.

        Raises:
            FcisError: `model.classes` is not set.
        """
        if isinstance(config, dict):
            config = Config.model_validate(config)
        network = cls(
            config.model,
            config.proposals,
            config.predict,
            precision=precision or config.train.precision,
            ops=ops,
        )
        network.config = config
        if config.train.freeze is not None:
            freeze(network.backbone, config.train.freeze)
        network.build_maps()
        return network

    def build_maps(self) -> None:
        """Make all weights."""
        self(tf.zeros([1, 64, 64, 3]))

    def call(self, image: Tensor, training: bool = False) -> Maps:
        """Image (B, H, W, 3), RGB less the channel means -> all maps of the network."""
        conv4, conv5 = self.backbone(image, training=training)
        scores, boxes = self.score_maps(conv5)
        return Maps(self.rpn_head(conv4), scores, boxes)

    def anchors(self, maps: Maps) -> Tensor:
        """Anchors (A, 4) of the feature grid of `maps`, in the order of its RPN outputs."""
        shape = tf.shape(maps.scores)
        return grid_anchors(self.cell_anchors, shape[1], shape[2], self.stride)

    def propose(self, maps: Maps, image_size: Tensor, *, training: bool = False) -> Proposals:
        """ROIs (B, N, 4) in network pixels; N differs between training and prediction."""
        settings = self.proposal_config
        return propose(
            maps.rpn,
            self.anchors(maps),
            image_size,
            count=settings.train_count if training else settings.predict_count,
            pre_nms=settings.pre_nms,
            nms_threshold=settings.nms_threshold,
            min_size=settings.min_size,
            stride=self.stride if settings.grid == "released" else None,
        )

    def score_rois(self, maps: Maps, rois: Tensor, labels: Tensor | None = None) -> Heads:
        """What the maps say of rois (B, N, 4); masks are of class `labels` or the best one."""
        kind = self.score_map_kind
        return read_heads(maps, rois, labels, score_maps=kind, **self.geometry)

    def refine(self, rois: Tensor, heads: Heads, image_size: Tensor) -> Tensor:
        """ROIs moved by their box deltas and clipped to the image (spec section 6)."""
        moved = box_ops.decode(heads.box_deltas * BOX_STD, rois)
        return box_ops.clip(moved, image_size[:, None, :])
