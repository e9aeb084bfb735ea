"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Configuration keys, such as train.steps=2000."),
]
Run = Annotated[Path, typer.Option(help="Run directory.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder to write to.", show_default=False)]
LabelMeFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="LabelMe json files, also in folders below.")
]
MaskFolder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="images/NAME.jpg and masks/NAME/CLASS_1.png, or NAME/images/ and NAME/masks/.",
    ),
]
SingleClass = Annotated[
    str | None,
    typer.Option("--class", help="Class of all masks; default: from the file names."),
]
ClassFile = Annotated[
    Path | None,
    typer.Option("--labels", help="File with class names, one a line; default: all that occur."),
]
