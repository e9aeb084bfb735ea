"""Commands that use a run: evaluate, predict."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Out, Overrides
from fcis_tf.errors import FcisError
from fcis_tf.tf_logging import import_tensorflow


def evaluate(
    run: Annotated[Path | None, typer.Option(help="Run directory.", show_default=False)] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="COCO results json to score instead of a run, of any tool."),
    ] = None,
    records: Annotated[
        str | None,
        typer.Option(help="Folder of records; default the run's validation records."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="With --results: the ground truth as a COCO json."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="With --annotations: folder of the images, for the report."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Other weights than the run's best."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for a page with tables, curves, errors and pictures."),
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
    """AP of masks, boxes and boundaries, VOC mAP^r, by class; a report; COCO results json."""
    from fcis_tf.progress import Progress

    if (run is None) == (results is None):
        raise FcisError("evaluate: name one of --run RUN and --results FILE")
    if results:
        refused = {"--weights": weights, "KEY=VALUE": overrides}
    else:
        refused = {"--annotations": annotations, "--images": images}
    for option, value in refused.items():
        if value:
            raise FcisError(
                f"evaluate: {option} does not go with {'--results' if results else '--run'}"
            )
    if results:
        if records or images:
            import_tensorflow()
        from fcis_tf.evaluation.score import score_results

        with Progress("scoring", unit="steps") as progress:
            metrics = score_results(
                results,
                annotations=annotations,
                records=records,
                images=images,
                limit=limit,
                out=out,
                report=report,
                progress=progress,
            )
        written = [f"{out}/metrics.json"] if out else []
        hint = f"fcis evaluate --results {results} ... --report report"
    else:
        import_tensorflow()
        from fcis_tf.evaluation import run as evaluation

        assert run is not None
        out = out or run / "evaluation"
        with Progress("evaluating") as progress:
            metrics = evaluation.evaluate(
                run,
                records=records,
                weights=weights,
                out=out,
                report=report,
                limit=limit,
                overrides=overrides or (),
                progress=progress,
            )
        written = [f"{out}/results.json", f"{out}/metrics.json"]
        hint = f"fcis predict --run {run} --out pictures IMAGE_OR_FOLDER"
    print(metrics.table())
    if report:
        written.append(f"{report}/index.html")
    if written:
        print(f"wrote {', '.join(written)}")
    print(f"next: {f'open {report}/index.html in a browser' if report else hint}")


def predict(
    out: Out,
    paths: Annotated[
        list[Path], typer.Argument(help="Images, folders, patterns in quotes, and videos.")
    ],
    run: Annotated[Path | None, typer.Option(help="Run directory.")] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask a server instead: http://HOST:8501 (REST) or grpc://HOST:8500.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Name of the model on the server.")] = "fcis",
    labels: Annotated[
        Path | None,
        typer.Option(help="With --server: labels.json, for the names of the classes."),
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=0.1, help="Seconds a server may take, with all attempts.")
    ] = 60.0,
    score: Annotated[float, typer.Option(min=0, max=1, help="Least score drawn.")] = 0.5,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw the instances over the images.")
    ] = True,
    label_maps: Annotated[
        bool,
        typer.Option("--label-maps", help="Also a 16-bit PNG of instance numbers for each image."),
    ] = False,
    score_maps: Annotated[
        bool,
        typer.Option("--score-maps", help="Also draw the k x k maps behind the best instance."),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Only the first images."),
    ] = None,
    upright: Annotated[
        bool, typer.Option("--upright/--as-stored", help="Turn images as their EXIF says.")
    ] = True,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Configuration; may be repeated."),
    ] = None,
) -> None:
    """Draw the instances of images; also writes them as COCO json."""
    if (run is None) == (server is None):
        raise FcisError("predict: expected --run RUN or --server URL, one of them")
    import_tensorflow()
    from fcis_tf.prediction.output import OutputOptions
    from fcis_tf.progress import Progress

    options = OutputOptions(score, pictures, label_maps, score_maps)
    with Progress("predicting") as progress:
        if server is not None:
            if score_maps or overrides or not upright:
                raise FcisError(
                    "predict: --score-maps, --as-stored and --set need --run, not --server"
                )
            from fcis_tf.labels import Labels
            from fcis_tf.serving.client.remote import predict_remotely

            written = predict_remotely(
                server,
                paths,
                out,
                options,
                limit=limit,
                progress=progress,
                labels=Labels.load(labels) if labels else None,
                model=model,
                deadline=deadline,
            )
        else:
            from fcis_tf.prediction.predict_files import predict_files

            assert run is not None
            written = predict_files(
                run,
                paths,
                out,
                options,
                limit=limit,
                upright=upright,
                overrides=overrides or (),
                progress=progress,
            )
    print(f"wrote {len(written)} pictures and predictions.json to {out}")
    if run is not None:
        print(f"next: fcis export --run {run} --out export/1")
