"""Options that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnist_jax.errors import RunError, SpecError
from mnist_jax.optimizers import Optimizer, Schedule
from mnist_jax.pages import GENERATOR
from mnist_jax.settings import Option

RunDir = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="A directory that `train` wrote.", show_default=False)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder with the four official files, gzipped or not. (default: $MNIST_JAX_DATA_DIR)",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def page(path: Path) -> Path:
    """Where an HTML page is to be written: at once, so that no work is done in vain.

    Raises:
        RunError: it can't be, or somebody else's file is there.
    """
    if path.suffix != ".html":
        raise RunError(f"--out must name a .html file; got {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise RunError(f"--out must name a file in a directory that exists; got {path}")
    if not os.access(path.parent, os.W_OK):
        raise RunError(f"--out must name a file in a directory that can be written; got {path}")
    if path.exists():
        with path.open("rb") as file:
            if GENERATOR not in file.read(1000):
                raise RunError(f"--out must name a new file, or a page of mnist-jax; {path} is another")
    return path


def parse[Named: (Optimizer, Schedule)](kind: type[Named], text: str) -> Named:
    """`sgd:momentum=0.9,nesterov=true` as an optimiser, or the like as a schedule.

    Raises:
        SpecError: it is none.
    """
    name, colon, rest = text.partition(":")
    pairs = [pair.split("=") for pair in rest.split(",")] if colon else []
    if any(len(pair) != 2 for pair in pairs):
        what = kind.__name__.lower()
        raise SpecError(f"{what} must be a name, or NAME:OPTION=VALUE,OPTION=VALUE; got {text!r}")
    given = [option for option, _ in pairs]
    if len(set(given)) < len(given):
        raise SpecError(f"each option must be given once; got {text!r}")
    return kind(name, {option: _value(value) for option, value in pairs})


def _value(text: str) -> Option | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return tuple(map(float, text.split("/"))) if "/" in text else float(text)
    except ValueError:
        return text  # is refused, with its name, where the option's kind is known
