"""fcis split: hold out images for validation; one sub-command for each format of labels."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import LabelMeFolder, MaskFolder, Out, SingleClass
from fcis_tf.tf_logging import import_tensorflow

app = typer.Typer(help="Split labelled images into training and validation images.")

Validation = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Fraction of the images to hold out.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed draws the same split.")]


@app.command()
def coco(
    annotations: Annotated[Path, typer.Option(help="COCO instances json.")],
    out: Out,
    validation: Validation = 0.2,
    seed: Seed = 0,
) -> None:
    """Split a COCO json into train.json and val.json."""
    import_tensorflow()
    from fcis_tf.data.convert.split import split_coco

    print(split_coco(annotations, out, validation=validation, seed=seed))
    print(f"wrote {out}/train.json and {out}/val.json")
    print(
        f"next: fcis convert coco --images DIR --annotations {out}/train.json --out RECORDS/train"
    )


@app.command()
def labelme(folder: LabelMeFolder, out: Out, validation: Validation = 0.2, seed: Seed = 0) -> None:
    """Write train.txt and val.txt with image names, for fcis convert labelme --list."""
    _write_lists("labelme", folder, {}, out, validation, seed)


@app.command()
def masks(
    folder: MaskFolder,
    out: Out,
    single_class: SingleClass = None,
    validation: Validation = 0.2,
    seed: Seed = 0,
) -> None:
    """Write train.txt and val.txt with image names, for fcis convert masks --list."""
    _write_lists("masks", folder, {"single_class": single_class}, out, validation, seed)


def _write_lists(
    kind: str, folder: Path, options: dict, out: Path, validation: float, seed: int
) -> None:
    import_tensorflow()
    from fcis_tf.data.convert.report import Report
    from fcis_tf.data.convert.split import split_source
    from fcis_tf.data.sources.kinds import read_source

    report = Report()
    source = read_source(kind, folder, report.add_fault, **options)
    drawn = split_source(source, out, validation=validation, seed=seed)
    print(report.reason_lines(), drawn, sep="")
    print(f"wrote {out}/train.txt and {out}/val.txt")
    print(f"next: fcis convert {kind} {folder} --list {out}/train.txt --out RECORDS/train")
