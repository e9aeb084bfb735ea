"""One training step: maps, targets, losses, gradients, update; the same on every replica."""

from typing import Any

import keras
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.model.fcis import BOX_STD, FCIS
from fcis_tf.structures import AnchorTargets, Maps, Proposals, RoiTargets, Tensor
from fcis_tf.train.losses import keep_hardest, roi_losses, rpn_losses
from fcis_tf.train.targets import anchor_targets, roi_targets


def compute_targets(
    model: FCIS, maps: Maps, proposals: Proposals, batch: dict[str, Tensor], train: TrainConfig
) -> tuple[AnchorTargets, RoiTargets]:
    """What the RPN should say of its anchors and the heads of their ROIs; see targets.py."""
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
        top_up=train.roi_top_up,
        pooled_size=model.geometry["pooled_size"],
    )
    return anchors, rois


def compute_losses(model: FCIS, batch: dict[str, Tensor], train: TrainConfig) -> dict[str, Tensor]:
    """The five losses of a batch, each a sum over its images; see losses.py for their names."""
    maps = model(batch["image"], training=True)
    proposals = model.propose(maps, batch["image_size"], training=True)
    anchors, rois = compute_targets(model, maps, proposals, batch, train)
    heads = model.read(maps, rois.rois, rois.labels)
    if train.sampling == "ohem":
        rois = keep_hardest(heads, rois, count=train.roi_batch, mask_weight=train.mask_weight)
    return {
        **rpn_losses(maps.rpn, anchors, batch_size=train.rpn_batch),
        **roi_losses(heads, rois, batch_size=train.roi_batch, mask_weight=train.mask_weight),
    }


class TrainStep:
    """One update from the global batches of a strategy.

    Gradients are sums over all images of all replicas and of all accumulated batches: the Keras
    optimiser adds what the replicas hand in, and every loss is a sum over its images. So one device
    with four images, four devices with one, and one device with one image four times over make the
    same update.

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
            self.sums = [
                tf.Variable(
                    tf.zeros(shape),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for shape in self._accumulated()
            ]
        # The batch is taken inside the graph: an iterator states which dimensions vary, so that
        # batches of other sizes do not trace the step again.
        self.step = tf.function(self._step)
        self.collect = tf.function(self._collect)
        self.apply = tf.function(self._apply)

    def __call__(self, batches: Any) -> dict[str, Tensor]:
        """Update the weights on the next `train.accumulate` batches of a distributed iterator.

        Returns the five losses and their total, mean over the images.
        """
        if self.train.accumulate == 1:
            sums = self.step(batches)
        else:
            each = [self.collect(batches) for _ in range(self.train.accumulate)]
            sums = {name: tf.add_n([part[name] for part in each]) for name in each[0]}
            self.apply(sums["images"])
        images = sums.pop("images")
        return {name: value / images for name, value in sums.items()}

    def swap_average(self) -> None:
        """Exchange the weights with their moving average; a second call exchanges them back."""
        for variable, average in zip(self._averaged(), self.average, strict=True):
            current = variable.numpy()
            variable.assign(average.numpy())
            average.assign(current)

    def _averaged(self) -> list[Any]:
        return self.model.trainable_variables if self.train.ema else []

    def _accumulated(self) -> list[Any]:
        """Shapes of what is summed from batch to batch: all gradients."""
        return (
            [v.shape for v in self.model.trainable_variables] if self.train.accumulate > 1 else []
        )

    def _step(self, batches: Any) -> dict[str, Tensor]:
        """Update on one batch; the summed losses and the number of images."""

        def replica(batch: dict[str, Tensor]) -> dict[str, Tensor]:
            gradients, losses = self._gradients(batch)
            self._update(gradients, losses["images"])
            return losses

        losses = self._sum(self.strategy.run(replica, (next(batches),)))
        self._follow()
        return losses

    def _collect(self, batches: Any) -> dict[str, Tensor]:
        """Add the gradients of one batch to `sums`; as `_step` without an update."""

        def replica(batch: dict[str, Tensor]) -> dict[str, Tensor]:
            gradients, losses = self._gradients(batch)
            for total, gradient in zip(self.sums, gradients, strict=True):
                total.assign_add(gradient)
            return losses

        return self._sum(self.strategy.run(replica, (next(batches),)))

    def _apply(self, images: Tensor) -> None:
        """Update on the collected gradients of so many images of all replicas, and clear them."""

        def replica() -> None:
            context = tf.distribute.get_replica_context()
            self._update(
                [tf.identity(total) for total in self.sums],
                images / context.num_replicas_in_sync,
            )
            for total in self.sums:
                total.assign(tf.zeros_like(total))

        self.strategy.run(replica)
        self._follow()

    def _gradients(self, batch: dict[str, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Gradients and losses of one replica's batch, summed over its images."""
        variables = self.model.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in variables])
            losses = compute_losses(self.model, batch, self.train)
            total = tf.add_n(list(losses.values()))
        gradients = tape.gradient(total, [v.value for v in variables])
        images = tf.cast(tf.shape(batch["image"])[0], tf.float32)
        return gradients, {**losses, "total": total, "images": images}

    def _update(self, gradients: list[Tensor], images: Tensor) -> None:
        """Hand one replica's gradients, of its `images`, to the optimiser."""
        if self.train.clip_norm:
            gradients = self._clip(gradients, images)
        self.optimizer.apply(gradients, self.model.trainable_variables)

    def _sum(self, per_replica: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in per_replica.items()
        }

    def _follow(self) -> None:
        """Move the weight average after an update."""
        if not self.train.ema:
            return
        step = tf.cast(self.optimizer.iterations.value, tf.float32)
        keep = tf.minimum(self.train.ema, (1.0 + step) / (10.0 + step))
        for average, variable in zip(self.average, self._averaged(), strict=True):
            average.assign(keep * average + (1.0 - keep) * variable.value)

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
