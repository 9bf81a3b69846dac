"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RunDir = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="A directory that `train` wrote.", show_default=False)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder with the four official files, gzipped or not. [default: $MNIST_JAX_DATA_DIR]",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
