"""One training step: maps, targets, losses, gradients, update; the same on every replica."""

from typing import Any

import keras
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.model.fcis import BOX_STD, FCIS
from fcis_tf.structures import Tensor
from fcis_tf.train.losses import keep_hardest, roi_losses, rpn_losses
from fcis_tf.train.targets import anchor_targets, roi_targets


def compute_losses(model: FCIS, batch: dict[str, Tensor], train: TrainConfig) -> dict[str, Tensor]:
    """The five losses of a batch, each a sum over its images; see losses.py for their names."""
    maps = model(batch["image"], training=True)
    proposals = model.propose(maps, batch["image_size"], training=True)
    anchors = anchor_targets(
        model.anchors(maps),
        batch,
        positive_iou=train.rpn_positive_iou,
        negative_iou=train.rpn_negative_iou,
        batch_size=train.rpn_batch,
        foreground=train.rpn_foreground,
    )
    rois = roi_targets(
        proposals,
        batch,
        BOX_STD,
        sampling=train.sampling,
        batch_size=train.roi_batch,
        foreground=train.roi_foreground,
        positive_iou=train.roi_positive_iou,
        background_iou=train.roi_background_iou,
        pooled_size=model.geometry["pooled_size"],
    )
    heads = model.read(maps, rois.rois, rois.labels)
    if train.sampling == "ohem":
        rois = keep_hardest(heads, rois, count=train.roi_batch, mask_weight=train.mask_weight)
    return {
        **rpn_losses(maps.rpn, anchors, batch_size=train.rpn_batch),
        **roi_losses(heads, rois, batch_size=train.roi_batch, mask_weight=train.mask_weight),
    }


class TrainStep:
    """A `tf.function` over the global batch of a strategy.

    Gradients are sums over all images of all replicas: the Keras optimiser adds what the replicas
    hand in, and every loss is a sum over its images. So one device with four images and four
    devices with one make the same update.

    Args:
        model: built under `strategy`.
        optimizer: built under `strategy`.
        strategy: a `tf.distribute.Strategy`.
        train: settings.
    """

    def __init__(
        self,
        model: FCIS,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        train: TrainConfig,
    ) -> None:
        self.model, self.optimizer, self.strategy, self.train = model, optimizer, strategy, train
        with strategy.scope():
            optimizer.build(model.trainable_variables)
            self.average = [tf.Variable(v.value) for v in self._averaged()]
        # The batch is taken inside the graph: an iterator states which dimensions vary, so that
        # batches of other sizes do not trace the step again.
        self.function = tf.function(self._step)

    def __call__(self, batches: Any) -> dict[str, Tensor]:
        """Update the weights on the next batch of a distributed iterator.

        Returns the five losses and their total, mean over the images of the batch.
        """
        return self.function(batches)

    def swap_average(self) -> None:
        """Exchange the weights with their moving average; a second call exchanges them back."""
        for variable, average in zip(self._averaged(), self.average, strict=True):
            current = variable.numpy()
            variable.assign(average.numpy())
            average.assign(current)

    def _averaged(self) -> list[Any]:
        return self.model.trainable_variables if self.train.ema else []

    def _step(self, batches: Any) -> dict[str, Tensor]:
        per_replica = self.strategy.run(self._replica_step, (next(batches),))
        losses = {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in per_replica.items()
        }
        images = losses.pop("images")
        if self.train.ema:
            step = tf.cast(self.optimizer.iterations.value, tf.float32)
            keep = tf.minimum(self.train.ema, (1.0 + step) / (10.0 + step))
            for average, variable in zip(self.average, self._averaged(), strict=True):
                average.assign(keep * average + (1.0 - keep) * variable.value)
        return {name: value / images for name, value in losses.items()}

    def _replica_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        variables = self.model.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in variables])
            losses = compute_losses(self.model, batch, self.train)
            total = tf.add_n(list(losses.values()))
        gradients = tape.gradient(total, [v.value for v in variables])
        images = tf.cast(tf.shape(batch["image"])[0], tf.float32)
        if self.train.clip_norm:
            gradients = self._clip(gradients, images)
        self.optimizer.apply(gradients, variables)
        return {**losses, "total": total, "images": images}

    def _clip(self, gradients: list[Tensor], images: Tensor) -> list[Tensor]:
        """Scale so that the gradient per image has at most `clip_norm`.

        The norm is that of the sum over replicas: clipping each replica's part would give another
        update on two devices than on one.
        """
        context = tf.distribute.get_replica_context()
        # One flat list: a nest would be reduced in parts whose packing differs between replicas.
        *gradients, images = context.all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, images])
        gradients, _ = tf.clip_by_global_norm(gradients, self.train.clip_norm * images)
        # The optimiser sums over replicas once more.
        return [gradient / context.num_replicas_in_sync for gradient in gradients]
