"""The command ``fcis``: parse arguments, call one function, print what was written.

Each sub-command imports TensorFlow itself, so that ``--help`` is fast.
"""

import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from fcis_tf.cli import (
    benchmark,
    convert,
    doctor,
    evaluate,
    export,
    import_weights,
    inspect,
    predict,
    shapes,
    split,
    train,
)
from fcis_tf.errors import FcisError

INTERRUPTED = 130  # exit status of a command that Ctrl-C ended, as in every shell

# Data, training, evaluation, prediction, serving, then the machine.
ORDER = (
    "shapes",
    "split",
    "convert",
    "inspect",
    "import-weights",
    "train",
    "evaluate",
    "predict",
    "export",
    "check-export",
    "benchmark",
    "doctor",
)


class _InOrder(TyperGroup):
    """Lists the commands as in ORDER; typer lists those with sub-commands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    cls=_InOrder,
    help="FCIS: instance segmentation on TensorFlow, from COCO labels to a SavedModel.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(convert.app, name="convert")
app.add_typer(split.app, name="split")
app.command()(inspect.inspect)
app.command()(shapes.shapes)
app.command()(train.train)
app.command("import-weights")(import_weights.import_weights)
app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.command()(export.export)
app.command("check-export")(export.check_export)
app.command()(benchmark.benchmark)
app.command()(doctor.doctor)


def main() -> None:
    """Run a command and exit: status 2 and one line for invalid input, 130 for Ctrl-C."""
    # Level 3: TensorFlow logs start-up notes as errors; real failures raise exceptions.
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
