"""Commands that turn labelled images into records: convert coco, sbd, labelme, masks."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcis_tf.cli.options import ClassFile, LabelMeFolder, MaskFolder, Out, SingleClass
from fcis_tf.errors import FcisError
from fcis_tf.tf_logging import import_tensorflow

if TYPE_CHECKING:
    from fcis_tf.data.sources.base import Reader

app = typer.Typer(help="Turn labelled images into TFRecords.")

Shards = Annotated[
    int | None, typer.Option(min=1, help="Files to write; default one for every 256 images.")
]
Processes = Annotated[
    int | None, typer.Option(min=1, help="Default: all processors for large data sets, else one.")
]
Part = Annotated[str, typer.Option(metavar="I/N", help="Make every N-th shard, the I-th first.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first fault.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Only compare what is there with its manifest.")
]
ImageList = Annotated[
    Path | None,
    typer.Option("--list", help="Text file with the names of the images to use; default all."),
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
    """Convert a COCO json and its images; the same command continues an interrupted conversion.

    Faults are counted by reason in report.json; manifest.json names the source and has a sha256
    of every shard.
    """
    import_tensorflow()
    from fcis_tf.data.sources.coco import read_coco

    reader = partial(read_coco, images, annotations)
    _convert(reader, out, shards, processes, part, strict, verify)


@app.command()
def sbd(
    folder: Annotated[
        Path, typer.Argument(help="With img, inst and cls (SBD), or JPEGImages and so on (VOC).")
    ],
    out: Out,
    images: Annotated[
        str | None,
        typer.Option("--list", help="train, val or a file with names of images; default all."),
    ] = None,
    shards: Shards = None,
    processes: Processes = None,
    part: Part = "1/1",
    strict: Strict = False,
    verify: Verify = False,
) -> None:
    """Convert Pascal VOC's instances: SBD's .mat files (also called SDS), or VOC 2012's PNGs."""
    import_tensorflow()
    from fcis_tf.data.sources.voc import read_sbd

    reader = partial(read_sbd, folder, images=images)
    _convert(reader, out, shards, processes, part, strict, verify)


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
    import_tensorflow()
    from fcis_tf.data.sources.labelme import read_labelme

    reader = partial(read_labelme, folder, labels=labels, images=images)
    _convert(reader, out, shards, processes, part, strict, verify)


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
    import_tensorflow()
    from fcis_tf.data.sources.masks import read_masks

    reader = partial(read_masks, folder, single_class=single_class, labels=labels, images=images)
    _convert(reader, out, shards, processes, part, strict, verify)


def _convert(
    reader: "Reader",
    out: Path,
    shards: int | None,
    processes: int | None,
    part: str,
    strict: bool,
    verify_only: bool,
) -> None:
    """What all sources have in common."""
    from fcis_tf.data.convert.converter import convert
    from fcis_tf.data.convert.manifest import verify
    from fcis_tf.data.convert.report import Report
    from fcis_tf.progress import Progress

    if verify_only:
        origin = reader(Report().add_fault).origin
        count = verify(out, origin)
        print(f"{out}: {count} shards as {out}/manifest.json says, made from {origin['name']}")
        return
    with Progress("converting") as progress:
        done = convert(
            reader,
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
