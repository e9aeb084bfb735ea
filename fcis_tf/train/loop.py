"""The training run: data, model, steps, checkpoints, evaluation. Read it top to bottom."""

import io
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fcis_tf import visualize
from fcis_tf.config import Config, load_config
from fcis_tf.data.pipeline import augmentation, training_dataset
from fcis_tf.data.records import load_labels, read_records
from fcis_tf.errors import FcisError
from fcis_tf.evaluate import coco
from fcis_tf.inference import Predictor, evaluate_model, read_image, write_json
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.import_weights import assign, read_weights
from fcis_tf.model.weights import BEST, save_weights
from fcis_tf.progress import Progress
from fcis_tf.train.optimizer import build_optimizer
from fcis_tf.train.step import NOT_LOSSES, TrainStep
from fcis_tf.train.strategy import fix_randomness, mirrored_strategy


def train(
    config: Config,
    run: Path,
    *,
    resume: bool = True,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Train, or continue, the run in a directory.

    Writes ``config.yaml``, ``labels.json``, ``checkpoints/``, the weights of the best validation AP
    ``best.weights.h5``, ``metrics.json`` and TensorBoard files.

    Args:
        config: what to train.
        run: the run directory; made if needed.
        resume: continue from the newest checkpoint; otherwise `run` must hold none.
        strategy: by default `mirrored_strategy()`.

    Returns:
        The content of ``metrics.json``: the metrics of the best weights.

    Raises:
        FcisError: no data, a run of another configuration, or a loss that is not finite.
    """
    records = config.data.train
    if not records:
        raise FcisError("data.train: no training records configured; set it to a records folder")
    # Records of another schema should not be found out after hours of training.
    for folder in filter(None, (records, config.data.validation)):
        next(read_records(folder), None)
    strategy = strategy or mirrored_strategy()
    fix_randomness(config.train.seed, deterministic=config.train.deterministic)
    labels = Labels.load(config.data.labels) if config.data.labels else load_labels(records)
    if config.model.classes not in (None, len(labels)):
        raise FcisError(
            f"model.classes: {config.model.classes} configured, the labels have {len(labels)}"
        )
    model_config = config.model.model_copy(update={"classes": len(labels)})
    config = config.model_copy(update={"model": model_config})
    _prepare(run, config, labels, resume)

    with strategy.scope():
        model = FCIS.from_config(config)
        if config.train.init and not tf.train.latest_checkpoint(str(run / "checkpoints")):
            _initialise(model, config.train.init)
        optimizer = build_optimizer(config.train)
        step = TrainStep(model, optimizer, strategy, config.train)
    done, best = tf.Variable(0, dtype=tf.int64), tf.Variable(-1.0)
    checkpoint = tf.train.Checkpoint(**step.state(), step=done, best=best)
    manager = tf.train.CheckpointManager(
        checkpoint, str(run / "checkpoints"), max_to_keep=config.train.keep_checkpoints
    )
    _restore(checkpoint, manager)
    start = int(done)

    step_size = config.train.batch_size * config.train.accumulate * strategy.num_replicas_in_sync

    def data(host: tf.distribute.InputContext) -> tf.data.Dataset:
        return training_dataset(
            records,
            labels=labels,
            batch_size=config.train.batch_size,
            step_size=step_size,
            seed=config.train.seed,
            start=start,
            shard=(host.input_pipeline_id, host.num_input_pipelines),
            **augmentation(config.data),
        )

    batches = iter(strategy.distribute_datasets_from_function(data))
    validate = Validation(model, config, labels, run)
    writer = tf.summary.create_file_writer(str(run / "train"))
    print(_banner(config, labels, model, strategy, start), flush=True)

    with Progress("training", total=config.train.steps, done=start, unit="steps") as progress:
        for number in range(start + 1, config.train.steps + 1):
            losses = _take(step, batches, number)
            _check_finite(losses, number)
            done.assign(number)
            progress.update(number, note=f"loss {losses['total']:.3f}")
            last = number == config.train.steps
            if number % config.train.log_every == 0 or last:
                _log(writer, losses, optimizer, number)
            if number % config.train.evaluate_every == 0 or last:
                step.swap_average()
                ap = validate(number)
                if ap >= float(best):
                    best.assign(ap)
                    validate.keep(number)
                step.swap_average()
                progress.say(f"step {number}: mask AP {ap:.3f} (best {float(best):.3f})")
            if number % config.train.checkpoint_every == 0 or last:
                _save(manager)
    return json.loads((run / "metrics.json").read_text())


class Validation:
    """Evaluates the current weights, draws a few predictions and keeps the best weights.

    Args:
        model: the network in training.
        config: its configuration.
        labels: its classes.
        run: where metrics, weights and TensorBoard files go.
    """

    def __init__(self, model: FCIS, config: Config, labels: Labels, run: Path) -> None:
        self.config, self.labels, self.run, self.model = config, labels, run, model
        self.predictor = Predictor(model)
        self.writer = tf.summary.create_file_writer(str(run / "validation"))
        self.metrics: coco.Metrics | None = None

    def __call__(self, step: int) -> float:
        """Mask AP on the validation records; without any, 0, so that the last weights are kept."""
        records = self.config.data.validation
        if not records:
            return 0.0
        self.metrics, _ = evaluate_model(
            self.predictor, records, self.labels, limit=self.config.train.evaluate_images
        )
        with self.writer.as_default(step):
            for kind in ("mask", "box"):
                for name, value in getattr(self.metrics, kind).items():
                    tf.summary.scalar(f"{kind}/{name}", value)
            for number, picture in enumerate(self._pictures(records)):
                tf.summary.image(f"prediction/{number}", picture[None])
        self.writer.flush()
        return self.metrics.mask["AP"]

    def keep(self, step: int) -> None:
        """Save the current weights as the best, with their metrics."""
        save_weights(self.model, self.run / BEST)
        metrics = self.metrics.to_dict() if self.metrics else {}
        write_json(self.run / "metrics.json", {"step": step, **metrics})

    def _pictures(self, records: str) -> Iterator[np.ndarray]:
        for record in itertools.islice(read_records(records), self.config.train.pictures):
            image = read_image(io.BytesIO(record.encoded), record.image_id)
            found = self.predictor.image(image).above(0.5)
            names = [self.labels.names[label - 1] for label in found.labels]
            yield visualize.draw_instances(image, found.boxes, found.masks, names, found.scores)


def _prepare(run: Path, config: Config, labels: Labels, resume: bool) -> None:
    """Make the run directory, or see that it belongs to this configuration."""
    known = run / "config.yaml"
    if (run / "checkpoints").exists() and not resume:
        raise FcisError(f"{run}: holds a run already; name another --run or let it resume")
    if known.exists() and (run / "checkpoints").exists():
        before = load_config(known).model_dump()["model"]
        for key, value in config.model_dump()["model"].items():
            if before[key] != value:
                raise FcisError(
                    f"{known}: model.{key} is {before[key]!r} there and {value!r} here; "
                    "name another --run or use the same configuration"
                )
    try:
        run.mkdir(parents=True, exist_ok=True)
        config.save(known)
        labels.save(run / "labels.json")
    except OSError as fault:
        raise FcisError(f"{run}: cannot write the run directory: {fault.strerror}") from None


def _initialise(model: FCIS, source: str) -> None:
    fresh = assign(model, read_weights(source), source, fresh_head=True)
    news = f"; newly initialised: {', '.join(fresh)}" if fresh else ""
    print(f"weights  {source}{news}", flush=True)


def _restore(checkpoint: tf.train.Checkpoint, manager: tf.train.CheckpointManager) -> None:
    if manager.latest_checkpoint is None:
        return
    try:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    except (ValueError, AssertionError, tf.errors.OpError) as fault:
        raise FcisError(
            f"{manager.latest_checkpoint}: does not fit this configuration or is damaged "
            f"({' '.join(str(fault).split())[:160]}); name another --run"
        ) from None


def _save(manager: tf.train.CheckpointManager) -> None:
    try:
        manager.save()
    except (OSError, tf.errors.OpError) as fault:
        text = " ".join(str(fault).split())[:160]
        raise FcisError(f"{manager.directory}: cannot write a checkpoint: {text}") from None


def _take(step: TrainStep, batches: Any, number: int) -> dict[str, float]:
    """One step; a record that cannot be used is told in one line."""
    try:
        return step(batches)[0]
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as fault:
        # TensorFlow wraps its own reason in pages of graph names.
        text = " ".join(fault.message.split())
        text = text[max(text.find("assertion failed"), 0) :]
        raise FcisError(
            f"step {number}: a training record is damaged or not as `fcis convert` writes it: "
            f"{text[:300]}"
        ) from fault


def _check_finite(losses: dict[str, float], step: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise FcisError(
                f"step {step}: loss {name} is {value}; checkpoints before this step are good; "
                "lower train.learning_rate, lengthen train.warmup_steps or set train.clip_norm"
            )


def _log(
    writer: tf.summary.SummaryWriter,
    losses: dict[str, float],
    optimizer: keras.optimizers.Optimizer,
    step: int,
) -> None:
    with writer.as_default(step):
        for name, value in losses.items():
            tf.summary.scalar(name if name in NOT_LOSSES else f"loss/{name}", value)
        tf.summary.scalar("learning_rate", optimizer.learning_rate)
    writer.flush()


def _banner(
    config: Config, labels: Labels, model: FCIS, strategy: tf.distribute.Strategy, start: int
) -> str:
    def count(weights: list[Any]) -> str:
        return f"{sum(math.prod(w.shape) for w in weights) / 1e6:.2f} M"

    replicas, batches = strategy.num_replicas_in_sync, config.train.accumulate
    times = f", {batches} times a step" if batches > 1 else ""
    trained, frozen = model.trainable_weights, model.non_trainable_weights
    return "\n".join(
        [
            f"model    {config.model.backbone}, stride {config.model.output_stride}, "
            f"{count(trained)} weights trained, {count(frozen)} fixed, {config.train.precision}",
            f"data     {config.data.train}, {len(labels)} classes",
            f"devices  {replicas}, {config.train.batch_size} images each{times}",
            f"steps    {start} of {config.train.steps} done",
        ]
    )
