"""fcis evaluate: metrics of a run, or of a COCO results file of any tool."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Overrides
from fcis_tf.errors import FcisError
from fcis_tf.tf_logging import import_tensorflow


def evaluate(
    run: Annotated[Path | None, typer.Option(help="Run directory.", show_default=False)] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="COCO results json of any tool, to score instead of a run."),
    ] = None,
    records: Annotated[
        str | None,
        typer.Option(help="Folder of records; default: the run's validation records."),
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
        typer.Option(help="Weights to use instead of the run's best."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for an HTML report with tables, curves, errors and images."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; default: RUN/evaluation."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Use only this many images."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Compute AP of masks, boxes and boundaries and VOC mAP^r; write a report."""
    from fcis_tf.progress import Progress

    if (run is None) == (results is None):
        raise FcisError("evaluate: expected one of --run RUN and --results FILE")
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
