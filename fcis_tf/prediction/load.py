"""A run directory as something that predicts."""

from collections.abc import Sequence
from pathlib import Path

from fcis_tf.config import Config, load_config
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.fold import fold
from fcis_tf.model.precision import warn_of_slow_precision
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.weights.weight_files import load_weights


def load_run(
    run: str | Path,
    overrides: Sequence[str] = (),
    weights: str | Path | None = None,
    *,
    ops: str = "auto",
) -> tuple[Config, Labels, FCIS]:
    """The configuration, classes and network of a run directory; `ops` as in `FCIS`.

    Raises:
        FcisError: the directory is not one, or its parts do not fit each other.
    """
    run = Path(run)
    if not (run / "config.yaml").exists():
        raise FcisError(f"{run}: not a run directory (no config.yaml); `fcis train` makes one")
    config = load_config(run / "config.yaml", overrides)
    labels = Labels.load(run / "labels.json")
    if config.model.classes != len(labels):
        raise FcisError(
            f"{run}: model.classes is {config.model.classes}, labels.json has {len(labels)}"
        )
    precision = config.predict.precision or config.train.precision
    warn_of_slow_precision("predict.precision", precision)
    model = FCIS.from_config(config, precision=precision, ops=ops)
    load_weights(model, weights or run)
    return config, labels, model


def load(
    run: str | Path, overrides: Sequence[str] = (), weights: str | Path | None = None
) -> Predictor:
    """What predicts with a run, and with the others that its ``predict.ensemble`` names.

    A member of an ensemble is a run directory, or a ``.weights.h5`` file for the configuration of
    `run`.

    Args:
        run: run directory.
        overrides: of its configuration, as "section.key=value".
        weights: other weights than the best ones of the run.

    Raises:
        FcisError: `run` is no run directory, its parts do not fit each other, or a member of the
            ensemble has other classes.
    """
    config, labels, model = load_run(run, overrides, weights)
    members = []
    for name in config.predict.ensemble:
        if Path(name).is_dir():
            _, others, member = load_run(name)
            if others != labels:
                raise FcisError(f"predict.ensemble: {name} has other classes than {run}")
        else:
            member = FCIS.from_config(config, precision=config.predict.precision)
            load_weights(member, name)
        members.append(fold(member))
    return Predictor(fold(model), members, labels=labels)
