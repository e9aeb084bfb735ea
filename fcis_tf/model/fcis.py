"""FCIS: one fully convolutional network whose maps answer detection and segmentation together.

All weights are in `FCIS.call`, which turns images into maps. What follows, proposals and per-ROI
assembly, is arithmetic on those maps (paper section 2).
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.errors import FcisError
from fcis_tf.geometry import boxes as box_ops
from fcis_tf.geometry.anchors import cell_anchors, grid_anchors
from fcis_tf.model.backbone import build_backbone, freeze
from fcis_tf.model.heads import ScoreMaps, read_heads
from fcis_tf.model.keras_training import KerasTraining
from fcis_tf.model.precision import resolve_precision
from fcis_tf.model.rpn import RpnHead, propose
from fcis_tf.structures import Heads, Maps, Proposals, Tensor

# Box deltas are learnt in units of these (dy, dx, dh, dw); `BBOX_STDS` of the released code.
BOX_STD = np.array([0.2, 0.2, 0.5, 0.5], np.float32)


@keras.saving.register_keras_serializable("fcis_tf")
class FCIS(KerasTraining):
    """The network, and the steps from its maps to detections.

    An ordinary Keras model: ``model.save("x.keras")`` and ``keras.saving.load_model`` give the same
    network back, and ``compile`` and ``fit`` train it (docs/keras.md).

    Args:
        config: the whole configuration; `model.classes` must be a number here. A dictionary of its
            sections is validated first.
        precision: of the convolutions, as `resolve_precision`; by default that of training.
            Everything per ROI is float32.
        ops: "auto", "custom" or "stock" operations for what ROIs read, as `ops.ps_assemble`.
        folded: without batch normalisation and with biases instead, as `fold` makes it.
        **options: `name` and `trainable` of a Keras model.

    Raises:
        FcisError: `model.classes` is not set.
    """

    def __init__(
        self,
        config: Config | dict[str, Any],
        *,
        precision: str | None = None,
        ops: str = "auto",
        folded: bool = False,
        **options: Any,
    ) -> None:
        config = Config.model_validate(config)
        setting = precision or config.train.precision
        precision = resolve_precision(setting)
        dtype = "float32" if precision == "float32" else f"mixed_{precision}"
        super().__init__(dtype=dtype, **options)
        model = config.model
        if model.classes is None:
            raise FcisError("model.classes: expected a number of foreground classes, found null")
        # Proposals, suppression and the custom operation have no XLA kernels.
        self.supports_jit = False
        self.config, self.folded = config, folded
        self.precision, self.precision_setting = precision, setting
        self.stride, self.classes = model.output_stride, model.classes
        self.geometry: dict[str, Any] = {
            "impl": ops,
            "group_size": model.group_size,
            "pooled_size": model.pooled_size,
            "stride": model.output_stride,
        }
        self.cell_anchors = cell_anchors(model.anchor_sizes, model.anchor_ratios, self.stride)
        self.backbone = build_backbone(
            model.backbone,
            norm="folded" if folded else model.norm,
            output_stride=model.output_stride,
            dtype=dtype,
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
        if config.train.freeze is not None and not folded:
            freeze(self.backbone, config.train.freeze)
        self(tf.zeros([1, 64, 64, 3]))  # makes all weights

    @classmethod
    def from_config(cls, config: Config | dict[str, Any], **options: Any) -> "FCIS":
        """A network of a `Config`, or of the dictionary that `get_config` returns.

        Args:
            config: either.
            **options: keyword arguments of `FCIS`.

        Raises:
            FcisError: `model.classes` is not set.
        """
        if isinstance(config, dict) and "config" in config:
            return cls(**config, **options)
        return cls(config, **options)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, in types that JSON holds."""
        return {
            "config": self.config.model_dump(mode="json"),
            "precision": self.precision_setting,  # auto is resolved anew where a file is loaded
            "ops": self.geometry["impl"],
            "folded": self.folded,
            "name": self.name,
            "trainable": self.trainable,
        }

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Nothing is left to do when Keras loads a model: the constructor makes the weights."""

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
        settings = self.config.proposals
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
        kind = self.config.model.score_maps
        return read_heads(maps, rois, labels, score_maps=kind, **self.geometry)

    def refine(self, rois: Tensor, heads: Heads, image_size: Tensor) -> Tensor:
        """ROIs moved by their box deltas and clipped to the image (released `box_parser.py`)."""
        moved = box_ops.decode(heads.box_deltas * BOX_STD, rois)
        return box_ops.clip(moved, image_size[:, None, :])
