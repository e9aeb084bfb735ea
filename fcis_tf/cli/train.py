"""fcis train: train a network, or check a data set by overfitting a few images."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcis_tf.cli.options import Overrides, Run
from fcis_tf.errors import FcisError
from fcis_tf.tf_logging import import_tensorflow

if TYPE_CHECKING:
    from fcis_tf.config import Config


def train(
    config: Annotated[Path, typer.Option(help="Configuration, such as configs/shapes.yaml.")],
    run: Run,
    overfit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Only check the data: overfit this many training images, such as 8."
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train on all visible devices, or continue an interrupted run."""
    from fcis_tf.config import load_config

    settings = load_config(config, overrides or ())
    import_tensorflow()
    from fcis_tf.training.loop import train
    from fcis_tf.training.stopping import Stopped

    try:
        if overfit:
            _check_data(settings, run, overfit)
            return
        metrics = train(settings, run)
    except Stopped as stopped:
        signal = stopped.signal.name
        print(
            f"stopped by {signal}; --overfit starts again" if overfit else stopped, file=sys.stderr
        )
        raise typer.Exit(128 + stopped.signal) from None  # as in every shell
    except FcisError as fault:
        if "TF_CONFIG" in os.environ:
            print(f"error: {fault}", file=sys.stderr, flush=True)
            os._exit(2)  # TensorFlow's server may wait for the other hosts forever
        raise
    if "mask" in metrics:
        print(f"best step {metrics['step']}: mask AP {metrics['mask']['AP']:.3f}")
    print(f"wrote {run}/best.weights.h5, {run}/metrics.json and TensorBoard files")
    print(f"next: fcis evaluate --run {run}")


def _check_data(config: "Config", run: Path, count: int) -> None:
    from fcis_tf.training.overfit import AP50, overfit

    found = overfit(config, run, count)
    print(f"mask AP50 {found.ap50:.3f} on its own {count} images after {found.steps} steps")
    if found.causes:
        print(f"expected at least {AP50}; check, most likely cause first:")
        print("\n".join(f"  {cause}" for cause in found.causes))
        raise typer.Exit(1)
    print("the data can be learnt; next: fcis train without --overfit")
