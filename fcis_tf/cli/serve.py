"""Commands for serving: export."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Overrides, Run
from fcis_tf.quiet import import_tensorflow


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Version folder, such as export/1.")],
    overrides: Overrides = None,
) -> None:
    """Write a SavedModel of stock TensorFlow operations, ready for TensorFlow Serving."""
    import_tensorflow()
    from fcis_tf.serve.export import export

    export(run, out, overrides=tuple(overrides or ()))
    print(f"wrote {out} with the signatures serving_default (image files) and images (uint8)")
    print(
        f"next: tensorflow_model_server --model_name=fcis --model_base_path={out.resolve().parent}"
    )
