"""The training run: data, model, steps, checkpoints, evaluation. Read it top to bottom."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from fcis_tf.config import Config, TrainConfig, load_config
from fcis_tf.data.pipeline import training_dataset
from fcis_tf.data.records import load_labels, read_records
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.precision import warn_of_slow_precision
from fcis_tf.training.checkpoints import Checkpoints, State, checkpoint_numbers
from fcis_tf.training.distributed.hosts import Hosts
from fcis_tf.training.distributed.strategy import choose_strategy, fix_randomness
from fcis_tf.training.faults import check_finite, name_damage, name_full_disk
from fcis_tf.training.logger import NoLogger, RunLogger
from fcis_tf.training.optimizer import build_optimizer
from fcis_tf.training.step import TrainStep
from fcis_tf.training.stopping import Stopped, StopRequest
from fcis_tf.training.summary import summary
from fcis_tf.training.validation import METRICS, Validation
from fcis_tf.weights.transfer import start_from


def train(
    config: Config | str | Path,
    run: str | Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = True,
    strategy: tf.distribute.Strategy | None = None,
    enough: float | None = None,
) -> dict[str, Any]:
    """Train, or continue, the run in a directory; docs/training.md describes what it writes.

    Args:
        config: what to train: a configuration file, or a `Config`.
        run: the run directory; made if needed.
        overrides: of a configuration file, as "section.key=value".
        resume: continue from the newest checkpoint; otherwise `run` must hold none.
        strategy: by default `choose_strategy()`.
        enough: stop when an evaluation has this mask AP50.

    Returns:
        The content of ``metrics.json``: the metrics of the best weights.

    Raises:
        FcisError: no data, a run of another configuration, a full disk, numbers that are not
            finite, or a host that was lost.
        Stopped: SIGTERM or Ctrl-C came; a checkpoint has been written.
    """
    run = Path(run)
    if not isinstance(config, Config):
        config = load_config(config, overrides)
    elif overrides:
        raise FcisError("train: overrides go with a configuration file, not with a Config")
    strategy = strategy or choose_strategy()
    hosts = Hosts(strategy)
    with hosts.together(run), name_full_disk(run):
        return _train(config, run, resume, strategy, hosts, enough)


def _train(
    config: Config,
    run: Path,
    resume: bool,
    strategy: tf.distribute.Strategy,
    hosts: Hosts,
    enough: float | None,
) -> dict[str, Any]:
    config, labels = _resolve(config)
    settings = config.train
    _prepare(run, config, labels, resume, write=hosts.chief)
    images = settings.batch_size * settings.accumulate * strategy.num_replicas_in_sync  # of a step
    fix_randomness(settings.seed, deterministic=settings.deterministic)

    with strategy.scope():
        model = FCIS.from_config(config)
        if settings.init and not checkpoint_numbers(run / "checkpoints"):
            news = start_from(model, settings.init, labels)
            if hosts.chief:
                print(f"weights  {settings.init}; {news}", flush=True)
        optimizer = build_optimizer(settings)
        step = TrainStep(model, optimizer, strategy, settings)
    state = State()
    checkpoints = Checkpoints(
        run / "checkpoints",
        state,
        keep=settings.keep_checkpoints,
        write=hosts.chief,
        **step.state(),
    )
    checkpoints.restore()
    start = int(state.step)
    hosts.agree(start, run)
    validation = Validation(model, config, labels, run)
    if start:
        state.set_best(hosts.from_chief(validation.kept_ap))

    def data(
        steps: int, host: tf.distribute.InputContext | None = None, batch_size: int = images
    ) -> tf.data.Dataset:
        """The batches of a run that has taken so many steps; a host's share of them."""
        return training_dataset(
            str(config.data.train),
            labels,
            config.data,
            batch_size=batch_size,
            step_size=images,
            seed=settings.seed,
            start=steps,
            shard=(host.input_pipeline_id, host.num_input_pipelines) if host else (0, 1),
        )

    batches = iter(
        strategy.distribute_datasets_from_function(
            lambda host: data(start, host, settings.batch_size)
        )
    )
    logger = (RunLogger if hosts.chief else NoLogger)(
        run,
        start=start,
        evaluated=int(state.evaluated),
        steps=settings.steps,
        every=settings.log_every,
        images=images,
    )
    logger.configuration(config)
    if hosts.chief:
        print(summary(config, labels, model, strategy, start), flush=True)
        warn_of_slow_precision("train.precision", settings.precision)

    with logger, checkpoints.saved_on(Stopped), StopRequest() as stop:
        # One of several hosts does not leave without the others.
        check = stop.check if hosts.count == 1 else None
        while True:
            number = int(state.step)
            last = number == settings.steps
            due = last or number % settings.evaluate_every == 0
            if due and number > int(state.evaluated):
                with _averaged(step):
                    ap = hosts.from_chief(lambda: validation(check))
                    best = state.is_best(ap)
                    logger.evaluation(number, validation, state, best=best)
                # The checkpoint first: if nothing else is written, the restarted run finds that the
                # kept weights are not those it calls the best, and evaluates once more.
                checkpoints.save()
                if best and hosts.chief:
                    with _averaged(step):
                        validation.keep(number)
            elif number % settings.checkpoint_every == 0 and number > checkpoints.newest:
                checkpoints.save()
            if last or (enough and hosts.any(validation.ap50 >= enough)):
                break
            if settings.patience and int(state.stale) >= settings.patience:
                logger.say(
                    f"stopped early at step {number}: no better AP in the last "
                    f"{int(state.stale)} evaluations (train.patience)"
                )
                break
            began = time.monotonic()
            with name_damage(number + 1):
                rows = step(batches, _steps_until_due(number, settings))
            seconds = (time.monotonic() - began) / len(rows)
            for row in rows:
                check_finite(row, number + 1, partial(data, number))
                number += 1
                logger.step(number, row, seconds, optimizer)
            state.step.assign(number)
            if hosts.any(stop.signal is not None):
                stop.leave()
    hosts.any(False)  # the chief has written everything
    return json.loads((run / METRICS).read_text())


def _resolve(config: Config) -> tuple[Config, Labels]:
    """The configuration with what its records say, and the classes; faults of either."""
    records = config.data.train
    if not records:
        raise FcisError("data.train: no training records configured; set it to a records folder")
    if config.train.patience and not config.data.validation:
        raise FcisError("train.patience: there is no AP to wait for; set data.validation")
    # Records of another schema should not be found out after hours of training.
    for folder in filter(None, (records, config.data.validation)):
        next(read_records(folder), None)
    labels = Labels.load(config.data.labels) if config.data.labels else load_labels(records)
    if config.model.classes not in (None, len(labels)):
        raise FcisError(
            f"model.classes: {config.model.classes} configured, the labels have {len(labels)}"
        )
    model = config.model.model_copy(update={"classes": len(labels)})
    return config.model_copy(update={"model": model}), labels


def _prepare(run: Path, config: Config, labels: Labels, resume: bool, *, write: bool) -> None:
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
    if not write:
        return
    try:
        run.mkdir(parents=True, exist_ok=True)
        config.save(known)
        labels.save(run / "labels.json")
    except OSError as fault:
        raise FcisError(f"{run}: cannot write the run directory: {fault.strerror}") from None


def _steps_until_due(number: int, settings: TrainConfig) -> int:
    """How many steps the next call takes: none beyond an evaluation or a checkpoint."""
    due = (settings.evaluate_every, settings.checkpoint_every)
    left = [settings.steps - number, *(every - number % every for every in due)]
    return min(settings.steps_per_call, *left)


@contextlib.contextmanager
def _averaged(step: TrainStep) -> Iterator[None]:
    """The weights are their moving average, if the run has one."""
    step.swap_average()
    try:
        yield
    finally:
        step.swap_average()
