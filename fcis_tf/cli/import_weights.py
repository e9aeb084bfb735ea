"""fcis import-weights: make a run directory from pretrained weights."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Out, Overrides
from fcis_tf.tf_logging import import_tensorflow


def import_weights(
    source: Annotated[
        str,
        typer.Argument(help="A .params, .npz or .h5 file, or keras:resnet50, -101 or -152."),
    ],
    out: Out,
    config: Annotated[Path | None, typer.Option(help="Configuration of the new run.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="labels.json, if the classes are not those of COCO or VOC.")
    ] = None,
    reinitialise_head: Annotated[
        bool,
        typer.Option(
            "--reinitialise-head", help="Initialise the head for another number of classes."
        ),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Make a run directory from FCIS weights (MXNet, ChainerCV) or ImageNet weights."""
    import_tensorflow()
    from fcis_tf.weights.importer import import_run

    fresh = import_run(
        source,
        out,
        config=config,
        overrides=overrides or (),
        labels=labels,
        fresh_head=reinitialise_head,
    )
    if fresh:
        print(f"not in {source}, newly initialised: {', '.join(fresh)}")
    print(f"wrote {out}/best.weights.h5, {out}/config.yaml and {out}/labels.json")
    if fresh:
        print(f"next: fcis train --config CONFIG --run RUN train.init={out}")
    else:
        print(f"next: fcis evaluate --run {out} --records RECORDS")
