"""Options shared by several commands, and parsers of their values."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax.config.deformation import Deformation
from mnist_jax.config.training import check_fraction
from mnist_jax.config.validation import check_choice, parse_pairs
from mnist_jax.data import folders
from mnist_jax.data.custom.source import check_exists
from mnist_jax.data.registry import DATASETS
from mnist_jax.errors import RunError, SpecError
from mnist_jax.report.html import GENERATOR
from mnist_jax.runs.directory import CONFIG, MODEL

PLATFORMS = ("cpu", "gpu", "tpu")


# Callbacks run while the command line is parsed, so that mistakes are reported before JAX is imported.
def _check_dataset(name: str | None) -> str | None:
    if name is not None:
        check_choice("data set", name, DATASETS)
    return name


def _check_path(path: Path | None) -> Path | None:
    if path is not None:
        check_exists(path)
    return path


def _check_data_dir(folder: Path | None) -> Path | None:
    if folder is not None:
        folders.named(folder)
    return folder


RunDir = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="A run directory, written by `train`.", show_default=False)
]
RunDirs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN_DIR...", help="Run directories, written by `train`.", show_default=False),
]
RunOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="RUN_DIR|FILE.onnx",
        help="A run directory, or an ONNX file exported from one.",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        callback=_check_data_dir,
        help="Folder with the data: official, torchvision or Keras files. (default: $MNIST_JAX_DATA_DIR)",
        show_default=False,
    ),
]
DataPath = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        "--data",
        metavar="PATH",
        callback=_check_path,
        help="Folder with the data set's files, or where your own data is now. (default: as in training)",
        show_default=False,
    ),
]
OwnData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        callback=_check_path,
        help="Your own data: a CSV, .npz or IDX file, or a folder with a folder of pictures per class.",
        show_default=False,
    ),
]
TestData = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        callback=_check_path,
        help="The test set of your own data. (default: found beside it, or a share held out)",
        show_default=False,
    ),
]
TestFraction = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Share of each class of your own data held out for testing. (default: 0.2)",
        show_default=False,
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", help="Names of the classes of your own data. (default: its labels)", show_default=False
    ),
]
Invert = Annotated[bool, typer.Option("--invert", help="Your own data is black on white.")]
Resize = Annotated[bool, typer.Option("--resize", help="Scale your own data to 28x28, whole.")]
Transposed = Annotated[
    bool, typer.Option("--transposed", help="Exchange rows and columns of IDX files, as for EMNIST.")
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        metavar="D",
        callback=_check_dataset,
        help="mnist, fashion_mnist, kmnist or digits. (default: mnist, or digits if unavailable)",
        show_default=False,
    ),
]
TestSetName = Annotated[
    str | None,
    typer.Option(
        metavar="D",
        callback=_check_dataset,
        help="Data set to test on. (default: the run's)",
        show_default=False,
    ),
]
PresetName = Annotated[
    str, typer.Option("--preset", metavar="P", help="A preset; `mnist-jax presets` lists them.")
]
ToChooseBy = Annotated[
    float, typer.Option(metavar="X", help="Fraction of the training set held out for model selection.")
]


def _set_platform(name: str | None) -> str | None:
    if name is not None:
        check_choice("platform", name, PLATFORMS)
        os.environ["JAX_PLATFORMS"] = "cuda" if name == "gpu" else name  # read when JAX starts
    return name


Platform = Annotated[
    str | None,
    typer.Option(
        metavar="P",
        callback=_set_platform,
        help="Run JAX on cpu, gpu or tpu. (default: the best there is)",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def check_to_choose_by(validation_fraction: float) -> None:
    """Checks that a validation set exists for model selection.

    Raises:
        SpecError: the fraction is 0, or not below 1.
    """
    check_fraction(validation_fraction)
    if not validation_fraction:
        raise SpecError("--validation-fraction must be above 0, for model selection; got 0")


def check_file(path: Path, *suffixes: str) -> None:
    """Checks that a file is writable, and has one of these suffixes.

    Raises:
        RunError: it is not, or has another suffix.
    """
    if path.suffix not in suffixes:
        raise RunError(f"--out must name a {' or a '.join(suffixes)} file; got {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise RunError(f"--out must name a file in a directory that exists; got {path}")
    if not os.access(path.parent, os.W_OK):
        raise RunError(f"--out must name a file in a writable directory; got {path}")


def onnx(path: Path, run_dir: Path | None = None) -> Path:
    """Checks the path of an ONNX file before any work is done.

    Args:
        path: the file to write.
        run_dir: the run whose own model.onnx it may be.

    Returns:
        The path.

    Raises:
        RunError: it is not writable, or is another run's model.onnx.
        ModelError: the .json file beside it was not written by mnist-jax.
    """
    from mnist_onnx.io import check_free

    check_file(path, ".onnx")
    own = run_dir is not None and path.parent.resolve() == run_dir.resolve()
    if path.name == MODEL and (path.parent / CONFIG).exists() and not own:
        raise RunError(f"--out must not be another run's own file; got {path}; choose another name")
    check_free(path)
    return path


def page(path: Path) -> Path:
    """Checks the path of an HTML page before any work is done.

    Args:
        path: the page to write.

    Returns:
        The path.

    Raises:
        RunError: it is not writable, or an existing file is not a page of mnist-jax.
    """
    check_file(path, ".html")
    if path.is_symlink() or path.exists():
        ours = path.is_file()  # opening a pipe would block
        if ours:
            with path.open("rb") as file:
                ours = GENERATOR in file.read(1000)
        if not ours:
            raise RunError(f"--out must name a new file, or a page of mnist-jax; {path} is another")
    return path


def deformation(text: str) -> Deformation:
    """Parses a deformation, such as `rotate=15,elastic_alpha=34`; `none` changes nothing.

    Raises:
        SpecError: the text or a value is invalid.
    """
    known = [field.name for field in fields(Deformation)]
    form = f"deformation must be none, or NAME=VALUE,NAME=VALUE with names among {', '.join(known)}"
    amounts: dict[str, Any] = {} if text == "none" else parse_pairs(text, form, text)
    if not set(amounts) <= set(known):
        raise SpecError(f"{form}; got {text!r}")
    return Deformation(**amounts)
