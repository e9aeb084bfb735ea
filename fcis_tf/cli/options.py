"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Configuration, such as train.steps=2000."),
]
Run = Annotated[Path, typer.Option(help="Run directory.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder to write to.", show_default=False)]
