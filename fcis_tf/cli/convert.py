"""fcis convert: labelled images to TFRecords; one sub-command for each format of labels."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fcis_tf.cli.options import ClassFile, LabelMeFolder, MaskFolder, Out, SingleClass
from fcis_tf.errors import FcisError
from fcis_tf.tf_logging import import_tensorflow

app = typer.Typer(help="Convert labelled images to TFRecords.")

Shards = Annotated[
    int | None, typer.Option(min=1, help="Number of files; default: one for every 256 images.")
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="Default: all processors for large data sets, otherwise one."),
]
Part = Annotated[
    str, typer.Option(metavar="I/N", help="Make only every N-th shard, from the I-th.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first fault in the labels.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Only compare existing shards with the manifest.")
]
ImageList = Annotated[
    Path | None,
    typer.Option("--list", help="Text file with the names of the images to use; default: all."),
]


@app.command()
def coco(
    images: Annotated[Path, typer.Option(help="Folder of the image files.")],
    annotations: Annotated[Path, typer.Option(help="COCO instances json.")],
    out: Out,
    shards: Shards = None,
    processes: Processes = None,
    part: Part = "1/1",
    strict: Strict = False,
    verify: Verify = False,
) -> None:
    """Convert a COCO json and its images, or continue an interrupted conversion.

    report.json counts the faults in the labels by reason; manifest.json has the source and the
    sha256 of every shard.
    """
    _convert(
        "coco", images, {"annotations": annotations}, out, shards, processes, part, strict, verify
    )


@app.command()
def sbd(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder with img, inst and cls (SBD), or JPEGImages and so on (VOC)."),
    ],
    out: Out,
    images: Annotated[
        str | None,
        typer.Option("--list", help="train, val or a file with image names; default: all."),
    ] = None,
    shards: Shards = None,
    processes: Processes = None,
    part: Part = "1/1",
    strict: Strict = False,
    verify: Verify = False,
) -> None:
    """Convert Pascal VOC's instances: SBD's .mat files (also called SDS), or VOC 2012's PNGs."""
    _convert("sbd", folder, {"list": images}, out, shards, processes, part, strict, verify)


@app.command()
def labelme(
    folder: LabelMeFolder,
    out: Out,
    labels: ClassFile = None,
    images: ImageList = None,
    shards: Shards = None,
    processes: Processes = None,
    part: Part = "1/1",
    strict: Strict = False,
    verify: Verify = False,
) -> None:
    """Convert a folder of LabelMe's json files and their images."""
    _convert(
        "labelme",
        folder,
        {"labels": labels, "list": images},
        out,
        shards,
        processes,
        part,
        strict,
        verify,
    )


@app.command()
def masks(
    folder: MaskFolder,
    out: Out,
    single_class: SingleClass = None,
    labels: ClassFile = None,
    images: ImageList = None,
    shards: Shards = None,
    processes: Processes = None,
    part: Part = "1/1",
    strict: Strict = False,
    verify: Verify = False,
) -> None:
    """Convert a folder of images with a mask file for every instance."""
    options = {"single_class": single_class, "labels": labels, "list": images}
    _convert("masks", folder, options, out, shards, processes, part, strict, verify)


def _convert(
    kind: str,
    source: Path,
    options: dict[str, Any],
    out: Path,
    shards: int | None,
    processes: int | None,
    part: str,
    strict: bool,
    verify: bool,
) -> None:
    """Convert or verify labels of any kind."""
    import_tensorflow()
    from fcis_tf.data.convert import manifest
    from fcis_tf.data.convert.converter import convert
    from fcis_tf.data.convert.report import Report
    from fcis_tf.data.sources.kinds import read_source
    from fcis_tf.progress import Progress

    if verify:
        origin = read_source(kind, source, Report().add_fault, **options).origin
        count = manifest.verify(out, origin)
        print(f"{out}: {count} shards as in {out}/manifest.json, made from {origin['name']}")
        return
    options |= {"shards": shards, "processes": processes, "part": _part(part), "strict": strict}
    with Progress("converting") as progress:
        report = convert(kind, source, out, progress=progress, **options)
    print(report)
    if report.kept:
        print(f"kept {report.kept} shards that were complete already")
    if report.missing:
        print(f"wrote part {part} to {out}; {report.missing} shards are missing")
        print("next: convert the other parts; the last one, or any run again, completes the folder")
        return
    print(f"wrote {out}/*.tfrecord, labels.json, report.json and manifest.json")
    print(f"next: fcis inspect {out} --out pictures")


def _part(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise FcisError(f"--part: expected I/N such as 1/4, found {text!r}")
    return int(index), int(count)
