"""Options that several benchmarks share."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

Peers = Annotated[
    list[str] | None,
    typer.Option("--peer", metavar="P", help="A baseline to compare with; may be repeated. (default: all)"),
]
PresetName = Annotated[str, typer.Option("--preset", metavar="P", help="Preset of the network.")]
DatasetName = Annotated[str, typer.Option(metavar="D", help="Data set to train on.")]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Directory of the data set.")]
Environments = Annotated[
    Path, typer.Option(metavar="DIR", help="Directory for the environments of the baselines.")
]
Python = Annotated[str, typer.Option(metavar="EXE", help="Python for the environments of the baselines.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", file_okay=False, help="Write JSON, Markdown and a plot there.")
]

ENVIRONMENTS = Path(tempfile.gettempdir()) / "mnist-jax-peers"
