"""fcis predict: draw the instances of images and videos."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Out
from fcis_tf.errors import FcisError
from fcis_tf.tf_logging import import_tensorflow


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
            help="Use a server instead: http://HOST:8501 (REST) or grpc://HOST:8500.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Name of the model on the server.")] = "fcis",
    labels: Annotated[
        Path | None,
        typer.Option(help="With --server: labels.json with the class names."),
    ] = None,
    deadline: Annotated[
        float,
        typer.Option(min=0.1, help="With --server: seconds for a request, including retries."),
    ] = 60.0,
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum score of drawn instances.")
    ] = 0.5,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw the instances on the images.")
    ] = True,
    label_maps: Annotated[
        bool,
        typer.Option(
            "--label-maps", help="Also write a 16-bit PNG of instance numbers for each image."
        ),
    ] = False,
    score_maps: Annotated[
        bool,
        typer.Option("--score-maps", help="Also draw the k x k score maps of the best instance."),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Use only this many images."),
    ] = None,
    upright: Annotated[
        bool, typer.Option("--upright/--as-stored", help="Apply the EXIF rotation of images.")
    ] = True,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Configuration; may be repeated."),
    ] = None,
) -> None:
    """Predict the instances of images and videos; write pictures and COCO json."""
    if (run is None) == (server is None):
        raise FcisError("predict: expected one of --run RUN and --server URL")
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
