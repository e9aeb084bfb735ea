"""fcis shapes: draw a data set."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.errors import FcisError


def shapes(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    train: Annotated[int, typer.Option(help="Training images.")] = 1000,
    validation: Annotated[int, typer.Option(help="Validation images.")] = 100,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images.")] = 0,
) -> None:
    """Draw a small COCO-format data set of shapes that touch and overlap."""
    from fcis_tf.data.shapes import generate_shapes
    from fcis_tf.progress import Progress

    if min(train, validation) < 1 or size < 64:
        raise FcisError(
            "shapes: --train and --validation must be at least 1 and --size at least 64, "
            f"found {train}, {validation} and {size}"
        )
    with Progress("drawing") as progress:
        generate_shapes(
            out, train=train, validation=validation, size=size, seed=seed, progress=progress
        )
    print(f"wrote {out}/train, {out}/train.json, {out}/val and {out}/val.json")
    print(
        f"next: fcis convert coco --images {out}/train --annotations {out}/train.json --out RECORDS"
    )
