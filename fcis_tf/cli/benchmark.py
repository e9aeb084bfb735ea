"""fcis benchmark: time the stages of prediction, training and the input pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from fcis_tf.cli.options import Overrides
from fcis_tf.tf_logging import import_tensorflow


def benchmark(
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration of the network; default: the paper's."),
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
        typer.Option(min=1, help="Number of ROIs to compare; may be repeated."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 7,
    threads: Annotated[int, typer.Option(min=0, help="TensorFlow threads; 0: all.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Time the training input pipeline on these records instead."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Time prediction, assembly, the training step, or the input pipeline."""
    from fcis_tf.config import load_config

    settings = load_config(config, overrides or ())
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if data:
        from fcis_tf.benchmark.data import benchmark_data

        benchmark_data(settings, data, rounds=rounds, out=out)
        if out:
            print(f"wrote {out}")
        return
    # TensorFlow warns about retracing; here every variant traces the same method on purpose.
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
