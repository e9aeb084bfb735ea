"""Commands that make and look at data: shapes, convert, inspect."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Out, Overrides
from fcis_tf.errors import FcisError
from fcis_tf.quiet import import_tensorflow


def shapes(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    train: Annotated[int, typer.Option(help="Training images.")] = 1000,
    validation: Annotated[int, typer.Option(help="Held-out images.")] = 100,
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


def convert_coco(
    images: Annotated[Path, typer.Option(help="Folder of the image files.")],
    annotations: Annotated[Path, typer.Option(help="COCO instances json.")],
    out: Out,
    shards: Annotated[
        int | None,
        typer.Option(min=1, help="Files to write; default one for every 256 images."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Default: all processors for large data sets, else one."),
    ] = None,
    part: Annotated[
        str, typer.Option(metavar="I/N", help="Make every N-th shard, the I-th first.")
    ] = "1/1",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first fault.")] = False,
    check: Annotated[
        bool, typer.Option("--verify", help="Only compare what is there with its manifest.")
    ] = False,
) -> None:
    """Convert a COCO json and its images; the same command continues an interrupted conversion.

    Faults are counted by reason in report.json; manifest.json names the source and has a sha256
    of every shard.
    """
    import_tensorflow()
    from fcis_tf.data.convert import coco_origin, convert_coco
    from fcis_tf.data.manifest import verify
    from fcis_tf.progress import Progress

    if check:
        count = verify(out, coco_origin(annotations))
        print(f"{out}: {count} shards as {out}/manifest.json says, made from {annotations}")
        return
    with Progress("converting") as progress:
        done = convert_coco(
            images,
            annotations,
            out,
            shards=shards,
            part=_part(part),
            strict=strict,
            processes=processes,
            progress=progress,
        )
    print(done.report)
    if done.kept:
        print(f"kept {done.kept} shards that were whole already")
    if done.missing:
        print(f"wrote part {part} to {out}; {done.missing} shards are missing")
        print("next: convert the other parts; the last one, or any run again, completes the folder")
        return
    print(f"wrote {out}/*.tfrecord, labels.json, report.json and manifest.json")
    print(f"next: fcis inspect {out} --out pictures")


def _part(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise FcisError(f"--part: expected I/N such as 1/4, found {text!r}")
    return int(index), int(count)


def inspect(
    records: Annotated[Path, typer.Argument(help="Folder of records.")],
    out: Out,
    config: Annotated[
        Path | None,
        typer.Option(help="Draw what training with this configuration sees."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Pictures.")] = 8,
    overrides: Overrides = None,
) -> None:
    """Draw the ground truth as the network will see it, augmentation included."""
    from fcis_tf.config import load_config

    settings = load_config(config, overrides or ())
    import_tensorflow()
    from fcis_tf.inspect import inspect_records

    summary, written = inspect_records(records, out, settings, limit=limit)
    print(summary)
    print(f"wrote {len(written)} pictures to {out}")
    print("next: fcis train --config CONFIG --run RUN")
