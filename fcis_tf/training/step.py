"""Training steps: maps, targets, losses, gradients, update; the same on every replica."""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fcis_tf.config import TrainConfig
from fcis_tf.model.fcis import BOX_STD, FCIS
from fcis_tf.structures import AnchorTargets, Maps, Proposals, RoiTargets, Tensor
from fcis_tf.training.average import MovingAverage
from fcis_tf.training.loss_scale import LossScale
from fcis_tf.training.losses import keep_hardest, roi_losses, rpn_losses
from fcis_tf.training.targets import anchor_targets, roi_targets

LOSSES = ("rpn_class", "rpn_box", "roi_class", "roi_box", "roi_mask")
NOT_LOSSES = ("gradient_norm", "loss_scale")  # reported with them


def compute_targets(
    model: FCIS, maps: Maps, proposals: Proposals, batch: dict[str, Tensor], train: TrainConfig
) -> tuple[AnchorTargets, RoiTargets]:
    """Targets of all anchors and of the ROIs; see targets.py."""
    anchors = anchor_targets(model.anchors(maps), batch, train)
    pooled_size = model.geometry["pooled_size"]
    return anchors, roi_targets(proposals, batch, BOX_STD, train, pooled_size=pooled_size)


def compute_losses(
    model: FCIS, batch: dict[str, Tensor], train: TrainConfig, *, training: bool = True
) -> dict[str, Tensor]:
    """The five losses of a batch, each a sum over its images; see losses.py for their names.

    Args:
        model: the network.
        batch: see structures.py.
        train: settings.
        training: whether batch normalisation uses the statistics of the batch.
    """
    maps = model(batch["image"], training=training)
    proposals = model.propose(maps, batch["image_size"], training=True)
    anchors, rois = compute_targets(model, maps, proposals, batch, train)
    heads = model.score_rois(maps, rois.rois, rois.labels)
    if train.sampling == "ohem":
        rois = keep_hardest(heads, rois, count=train.roi_batch, mask_weight=train.mask_weight)
    return {
        **rpn_losses(maps.rpn, anchors, batch_size=train.rpn_batch),
        **roi_losses(heads, rois, batch_size=train.roi_batch, mask_weight=train.mask_weight),
    }


class TrainStep:
    """Updates from the batches of a strategy.

    Gradients are sums over all images of all replicas and of all accumulated batches, and every
    loss is a sum over its images. So one device with four images, four devices with one, and one
    device with one image four times over make the same update.

    Args:
        model: built under `strategy`.
        optimizer: of `build_optimizer`, built under `strategy`; takes gradients that are summed.
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
            averaged = model.trainable_variables if train.ema else []
            self.moving_average = MovingAverage(averaged, train.ema)
            self.loss_scale = LossScale() if train.precision == "float16" else None
            self.sums = [
                tf.Variable(
                    tf.zeros(shape),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for shape in self._accumulated()
            ]
        self.waited = 0.0  # seconds, for batches
        self.steps = tf.function(self._steps)

    def __call__(self, batches: Any, count: int = 1) -> list[dict[str, float]]:
        """Make `count` updates in one call of TensorFlow.

        Args:
            batches: iterator of a distributed dataset; every update takes `train.accumulate`.
            count: number of updates.

        Returns:
            For each update the five losses and their total, mean over the images, and the norm of
            the gradient per image before clipping; "data_wait", the seconds that it waited for its
            batches, a mean over the call; with float16 also the loss scale of the update, which was
            left out if the norm is not finite.
        """
        self.waited = 0.0
        rows = self.steps(batches, tf.constant(count)).numpy().tolist()
        wait = {"data_wait": self.waited / count}
        return [dict(zip(self._names(), row, strict=True)) | wait for row in rows]

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, by name."""
        scale = self.loss_scale.variables if self.loss_scale else []
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "average": self.moving_average.values,
            "loss_scale": scale,
        }

    def swap_average(self) -> None:
        """Exchange the weights with their moving average; a second call exchanges them back."""
        self.moving_average.swap()

    def _accumulated(self) -> list[Any]:
        """Shapes of what is summed from batch to batch: all gradients."""
        return (
            [v.shape for v in self.model.trainable_variables] if self.train.accumulate > 1 else []
        )

    def _names(self) -> list[str]:
        return [*LOSSES, "total", *NOT_LOSSES[: 2 if self.loss_scale else 1]]

    def _steps(self, batches: Any, count: Tensor) -> Tensor:
        """(count, names) float32: see `__call__`."""
        rows = tf.TensorArray(tf.float32, count, element_shape=[len(self._names())])
        # The batch is taken inside the graph: an iterator states which dimensions vary, so that
        # batches of other sizes do not trace the step again.
        for number in tf.range(count):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            rows = rows.write(number, self._step(batches))
        return rows.stack()

    def _step(self, batches: Any) -> Tensor:
        """One update; the values of `_names`."""
        gradients, losses = self._collect(batches)
        images = losses[-1]
        gradients, norms = self.strategy.run(self._reduce, (gradients,))
        norm = self.strategy.experimental_local_results(norms)[0]
        reported = [losses[:-1] / images, [norm / images]]
        if self.loss_scale is None:
            self._update(gradients, norms, images)
        else:
            reported.append([self.loss_scale.scale.read_value()])
            finite = tf.math.is_finite(norm)
            if finite:
                self._update(gradients, norms, images)
            self.loss_scale.follow(finite)
        return tf.concat(reported, 0)

    def _collect(self, batches: Any) -> tuple[list[Tensor], Tensor]:
        """Each replica's gradients of the batches of one update; losses and images of them all."""
        if self.train.accumulate == 1:
            gradients, losses = self.strategy.run(self._gradients, (self._next(batches),))
            return gradients, self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
        summed = tf.zeros([len(LOSSES) + 2])
        for _ in tf.range(self.train.accumulate):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            losses = self.strategy.run(self._add, (self._next(batches),))
            summed += self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
        return self.strategy.run(self._take), summed

    def _next(self, batches: Any) -> dict[str, Tensor]:
        """The next batch; `waited` grows by the time until it is there."""

        # Python's clock: tf.timestamp refuses to run where operations are deterministic.
        def note(began: np.ndarray) -> None:
            self.waited += time.monotonic() - float(began)

        began = tf.numpy_function(time.monotonic, [], tf.float64)
        with tf.control_dependencies([began]):
            batch = next(batches)
        with tf.control_dependencies(self.strategy.experimental_local_results(batch["seed"])):
            tf.numpy_function(note, [began], [])
        return batch

    def _gradients(self, batch: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Of one replica's batch: scaled gradients; losses, their total, the number of images."""
        variables = self.model.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in variables])
            losses = compute_losses(self.model, batch, self.train)
            total = tf.add_n(list(losses.values()))
            scaled = total * self.loss_scale.scale if self.loss_scale else total
        gradients = tape.gradient(scaled, [v.value for v in variables])
        images = tf.cast(tf.shape(batch["image"])[0], tf.float32)
        return gradients, tf.stack([*(losses[name] for name in LOSSES), total, images])

    def _add(self, batch: dict[str, Tensor]) -> Tensor:
        """Add one replica's gradients to its `sums`; the losses as `_gradients`."""
        gradients, losses = self._gradients(batch)
        for total, gradient in zip(self.sums, gradients, strict=True):
            total.assign_add(gradient)
        return losses

    def _take(self) -> list[Tensor]:
        """One replica's `sums`, which start anew."""
        gradients = [tf.identity(total) for total in self.sums]
        with tf.control_dependencies(gradients):
            for total in self.sums:
                total.assign(tf.zeros_like(total))
        return gradients

    def _reduce(self, gradients: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Gradients summed over replicas, without the loss scale, and their norm."""
        context = tf.distribute.get_replica_context()
        # One flat list: a nest would be reduced in parts whose packing differs between replicas.
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        if self.loss_scale:
            gradients = [gradient / self.loss_scale.scale for gradient in gradients]
        return gradients, tf.linalg.global_norm(gradients)

    def _update(self, gradients: list[Tensor], norms: Tensor, images: Tensor) -> None:
        """Move the weights, and their average after them."""

        if self.train.clip_norm:
            most = self.train.clip_norm * images

            # The norm of the sum: clipping each replica's part would give another update on two
            # devices than on one.
            def clip(gradients: list[Tensor], norm: Tensor) -> list[Tensor]:
                return tf.clip_by_global_norm(gradients, most, use_norm=norm)[0]

            gradients = self.strategy.run(clip, (gradients, norms))
        # `optimizer.apply` would sum over the replicas once more; `update_step` is what it calls
        # after that, for every replica's copy of a variable.
        rate = self.optimizer.learning_rate
        for variable, gradient in zip(self.model.trainable_variables, gradients, strict=True):
            self.strategy.extended.update(
                variable.value,
                lambda copy, own, rate: self.optimizer.update_step(own, copy, rate),
                args=(gradient, rate),
                group=False,
            )
        self.optimizer.iterations.assign_add(1)
        self.moving_average.follow(self.optimizer.iterations.value)
