"""The command ``fcis``: parse, call one function, say what was written and what comes next.

TensorFlow is imported by the sub-command that needs it, so that help is quick.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fcis_tf.errors import FcisError
from fcis_tf.quiet import import_tensorflow

app = typer.Typer(
    help="FCIS: instance segmentation on TensorFlow, from COCO labels to a SavedModel.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
convert_app = typer.Typer(help="Turn labelled images into TFRecords.")
app.add_typer(convert_app, name="convert")

INTERRUPTED = 130  # exit status of a command that Ctrl-C ended, as in every shell

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Configuration, such as train.steps=2000."),
]
Run = Annotated[Path, typer.Option(help="Run directory.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder to write to.", show_default=False)]


@app.command()
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


@convert_app.command("coco")
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


@app.command()
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


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="Configuration, such as configs/shapes.yaml.")],
    run: Run,
    overrides: Overrides = None,
) -> None:
    """Train on all visible devices; the same command continues an interrupted run."""
    from fcis_tf.config import load_config

    settings = load_config(config, overrides or ())
    import_tensorflow()
    from fcis_tf.train.loop import train

    metrics = train(settings, run)
    if "mask" in metrics:
        print(f"best step {metrics['step']}: mask AP {metrics['mask']['AP']:.3f}")
    print(f"wrote {run}/best.weights.h5, {run}/metrics.json and TensorBoard files")
    print(f"next: fcis evaluate --run {run}")


@app.command("import-weights")
def import_weights(
    source: Annotated[
        str,
        typer.Argument(help="A .params, .npz or .h5 file, or keras:resnet50, -101 or -152."),
    ],
    out: Out,
    config: Annotated[Path | None, typer.Option(help="Configuration of the new run.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Classes, if not COCO or VOC.")] = None,
    reinitialise_head: Annotated[
        bool, typer.Option("--reinitialise-head", help="For another number of classes.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Make a run directory of released FCIS weights, ChainerCV's, or ImageNet's from Keras."""
    import_tensorflow()
    from fcis_tf.model.import_weights import import_run

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


@app.command()
def evaluate(
    run: Run,
    records: Annotated[
        str | None,
        typer.Option(help="Folder of records; default the run's validation records."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Other weights than the run's best."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; default RUN/evaluation."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Only the first images."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """COCO mask AP and box AP, a table by class, and COCO results json."""
    import_tensorflow()
    from fcis_tf.inference import evaluate_run
    from fcis_tf.progress import Progress

    out = out or run / "evaluation"
    with Progress("evaluating") as progress:
        metrics = evaluate_run(
            run,
            records=records,
            weights=weights,
            out=out,
            limit=limit,
            overrides=overrides or (),
            progress=progress,
        )
    print(metrics.table())
    print(f"wrote {out}/results.json and {out}/metrics.json")
    print(f"next: fcis predict --run {run} --out pictures IMAGE_OR_FOLDER")


@app.command()
def predict(
    run: Run,
    out: Out,
    paths: Annotated[list[Path], typer.Argument(help="Image files and folders.")],
    score: Annotated[float, typer.Option(min=0, max=1, help="Least score drawn.")] = 0.5,
    score_maps: Annotated[
        bool,
        typer.Option("--score-maps", help="Also draw the k x k maps behind the best instance."),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Only the first images."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Configuration; may be repeated."),
    ] = None,
) -> None:
    """Draw the instances of images; also writes them as COCO json."""
    import_tensorflow()
    from fcis_tf.draw import draw_predictions
    from fcis_tf.progress import Progress

    with Progress("predicting") as progress:
        written = draw_predictions(
            run,
            paths,
            out,
            score=score,
            score_maps=score_maps,
            limit=limit,
            overrides=overrides or (),
            progress=progress,
        )
    print(f"wrote {len(written)} pictures and predictions.json to {out}")
    print(f"next: fcis export --run {run} --out export/1")


@app.command()
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


@app.command()
def benchmark(
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration of the network; default the paper's."),
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width of the image.")] = (
        600,
        1000,
    ),
    only: Annotated[
        list[str] | None,
        typer.Option(help="stages, variants, assembly or training; may be repeated."),
    ] = None,
    rois: Annotated[
        list[int] | None,
        typer.Option(min=1, help="A number of ROIs to compare; may be repeated."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 7,
    threads: Annotated[int, typer.Option(min=0, help="Threads of TensorFlow; 0: all.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overrides: Overrides = None,
) -> None:
    """Time prediction by stage, its variants, assembly alone and the training step."""
    from fcis_tf.config import load_config

    settings = load_config(config, overrides or ())
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    # Every variant traces the same method anew, which is meant; TensorFlow warns of it.
    tf.get_logger().setLevel("ERROR")
    from fcis_tf.benchmark.report import MEASUREMENTS, benchmark

    benchmark(
        settings,
        height=size[0],
        width=size[1],
        only=only or MEASUREMENTS,
        rois=rois or (100, 300, 1000, 2000),
        rounds=rounds,
        out=out,
    )
    if out:
        print(f"wrote {out}")


@app.command()
def doctor() -> None:
    """Say what of this environment works, and what to do about the rest."""
    from fcis_tf.doctor import examine

    report, sound = examine()
    print(report)
    raise typer.Exit(0 if sound else 1)


def main() -> None:
    """Run a command and exit: 2 and one line for faults of the input, 130 for Ctrl-C."""
    # Level 3: TensorFlow logs start-up notes as errors; what really fails is an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        status = app(sys.argv[1:] or ["--help"], prog_name="fcis", standalone_mode=False)
    except FcisError as fault:
        _refuse(str(fault))
    except typer.TyperException as fault:
        context = getattr(fault, "ctx", None)
        command = context.command_path if context else "fcis"
        _refuse(f"{fault.format_message().rstrip('.')}; see {command} --help")
    except OSError as fault:
        if fault.filename is None:
            raise
        _refuse(f"{fault.filename}: {fault.strerror}")
    if status == INTERRUPTED:
        print("interrupted; the same command continues where it can", file=sys.stderr)
    sys.exit(status)


def _refuse(text: str) -> NoReturn:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(2)
