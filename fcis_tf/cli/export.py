"""fcis export and fcis check-export: a SavedModel of a run."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Overrides, Run
from fcis_tf.tf_logging import import_tensorflow


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Version folder, such as export/1.")],
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Refuse image files with more pixels before decoding; default: 25 million.",
        ),
    ] = None,
    upright: Annotated[
        bool, typer.Option("--upright/--as-stored", help="Apply the EXIF rotation of JPEGs.")
    ] = True,
    overrides: Overrides = None,
) -> None:
    """Write a SavedModel of stock TensorFlow operations, ready for TensorFlow Serving."""
    import_tensorflow()
    from fcis_tf.serving.export.export import export

    used = export(
        run, out, overrides=tuple(overrides or ()), max_pixels=max_pixels, upright=upright
    )
    print(f"wrote {out}: {len(used)} kinds of operations, all available in a stock server")
    print("signatures: serving_default and compact (image files), images (uint8)")
    print(f"next: bash scripts/deploy/start.sh {out.parent}")


def check_export(
    saved_model: Annotated[Path, typer.Argument(help="Version folder, such as export/1.")],
) -> None:
    """List the operations of a SavedModel; fail on any that a stock server lacks."""
    import_tensorflow()
    from fcis_tf.serving.export.ops_check import check_operations

    used = check_operations(saved_model)
    print("\n".join(used))
    print(f"{len(used)} kinds of operations, all available in a stock tensorflow_model_server")
