"""Options that several commands share."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax import folders
from mnist_jax.deformations import Deformation
from mnist_jax.errors import RunError, SpecError
from mnist_jax.optimizers import Optimizer, Schedule
from mnist_jax.pages import GENERATOR
from mnist_jax.runs import CONFIG, MODEL
from mnist_jax.settings import Option, check_one_of
from mnist_jax.sources import DATASETS
from mnist_jax.specs import check_fraction


# Called while the command line is read, so that a mistake is told at once, before JAX is imported.
def _check_dataset(name: str | None) -> str | None:
    if name is not None:
        check_one_of("data set", name, DATASETS)
    return name


def _check_data_dir(folder: Path | None) -> Path | None:
    if folder is not None:
        folders.named(folder)
    return folder


RunDir = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="A directory that `train` wrote.", show_default=False)
]
RunDirs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN_DIR...", help="Directories that `train` wrote.", show_default=False),
]
RunOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="RUN_DIR|FILE.onnx", help="A run, or an ONNX file that one wrote.", show_default=False
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        callback=_check_data_dir,
        help="Folder with the data: the official files, torchvision's or Keras's. "
        "(default: $MNIST_JAX_DATA_DIR)",
        show_default=False,
    ),
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        metavar="D",
        callback=_check_dataset,
        help="mnist, fashion_mnist, kmnist or digits. (default: mnist, or digits where it can't be had)",
        show_default=False,
    ),
]
TestSetName = Annotated[
    str | None,
    typer.Option(
        metavar="D",
        callback=_check_dataset,
        help="Whose test set. (default: the run's own)",
        show_default=False,
    ),
]
PresetName = Annotated[
    str, typer.Option("--preset", metavar="P", help="A recipe; `mnist-jax presets` lists them.")
]
ToChooseBy = Annotated[
    float, typer.Option(metavar="X", help="Held out of the training set, at its end, to choose by.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def check_to_choose_by(validation_fraction: float) -> None:
    """Checks that there is something to choose by.

    Raises:
        SpecError: nothing is held out, or everything.
    """
    check_fraction(validation_fraction)
    if not validation_fraction:
        raise SpecError("--validation-fraction must be above 0, since the best is chosen by it; got 0")


def check_file(path: Path, *suffixes: str) -> None:
    """Checks that a file can be written, and that its name ends in one of these.

    Raises:
        RunError: it can't, or ends otherwise.
    """
    if path.suffix not in suffixes:
        raise RunError(f"--out must name a {' or a '.join(suffixes)} file; got {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise RunError(f"--out must name a file in a directory that exists; got {path}")
    if not os.access(path.parent, os.W_OK):
        raise RunError(f"--out must name a file in a directory that can be written; got {path}")


def onnx(path: Path, run_dir: Path | None = None) -> Path:
    """Where an ONNX file is to be written: at once, so that no work is done in vain.

    Raises:
        RunError: it can't be; or it is the file of another run than `run_dir`.
        ModelError: the .json beside it is somebody else's.
    """
    from mnist_onnx.storage import check_free

    check_file(path, ".onnx")
    own = run_dir is not None and path.parent.resolve() == run_dir.resolve()
    if path.name == MODEL and (path.parent / CONFIG).exists() and not own:
        raise RunError(f"--out must not be another run's own file; got {path}; choose another name")
    check_free(path)
    return path


def page(path: Path) -> Path:
    """Where an HTML page is to be written: at once, so that no work is done in vain.

    Raises:
        RunError: it can't be, or somebody else's file is there.
    """
    check_file(path, ".html")
    if path.is_symlink() or path.exists():
        ours = path.is_file()  # and no pipe, which would keep us waiting
        if ours:
            with path.open("rb") as file:
                ours = GENERATOR in file.read(1000)
        if not ours:
            raise RunError(f"--out must name a new file, or a page of mnist-jax; {path} is another")
    return path


def parse[Named: (Optimizer, Schedule)](kind: type[Named], text: str) -> Named:
    """`sgd:momentum=0.9,nesterov=true` as an optimiser, or the like as a schedule.

    Raises:
        SpecError: it is none.
    """
    name, colon, rest = text.partition(":")
    form = f"{kind.__name__.lower()} must be a name, or NAME:OPTION=VALUE,OPTION=VALUE"
    return kind(name, _pairs(rest, form, text) if colon else {})


def deformation(text: str) -> Deformation:
    """`rotate=15,elastic=34` as a deformation; `none` is one that changes nothing.

    Raises:
        SpecError: it is none.
    """
    known = [field.name for field in fields(Deformation)]
    form = f"deformation must be none, or NAME=VALUE,NAME=VALUE with names among {', '.join(known)}"
    given = {} if text == "none" else _pairs(text, form, text)
    if not set(given) <= set(known):
        raise SpecError(f"{form}; got {text!r}")
    amounts: dict[str, Any] = given
    return Deformation(**amounts)


def _pairs(text: str, form: str, whole: str) -> dict[str, Option | str]:
    """`momentum=0.9,nesterov=true` as a mapping; `form` says what must hold of the `whole` that came."""
    pairs = [pair.split("=") for pair in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise SpecError(f"{form}; got {whole!r}")
    given = [option for option, _ in pairs]
    if len(set(given)) < len(given):
        raise SpecError(f"each option must be given once; got {whole!r}")
    return {option: _value(value) for option, value in pairs}


def _value(text: str) -> Option | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return tuple(map(float, text.split("/"))) if "/" in text else float(text)
    except ValueError:
        return text  # is refused, with its name, where the option's kind is known
