"""fcis inspect: draw the ground truth of records."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Out, Overrides
from fcis_tf.tf_logging import import_tensorflow


def inspect(
    records: Annotated[Path, typer.Argument(help="Folder of records.")],
    out: Out,
    config: Annotated[
        Path | None,
        typer.Option(help="Augment as training with this configuration does."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 8,
    overrides: Overrides = None,
) -> None:
    """Draw the ground truth of records after augmentation."""
    from fcis_tf.config import load_config

    settings = load_config(config, overrides or ())
    import_tensorflow()
    from fcis_tf.data.inspect import inspect_records

    summary, written = inspect_records(records, out, settings, limit=limit)
    print(summary)
    print(f"wrote {len(written)} pictures to {out}")
    print("next: fcis train --config CONFIG --run RUN")
