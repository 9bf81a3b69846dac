"""A `Dataset` from a folder with a folder of pictures for each class."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from mnist_jax.config.networks import IMAGE_SHAPE
from mnist_jax.data.custom.arrays import DataOptions, Part, build
from mnist_jax.data.custom.labels import natural
from mnist_jax.data.custom.pixels import gray, scaled
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.preprocess import SUFFIXES, prepare, read
from mnist_jax.data.preprocess.reading import converted
from mnist_jax.errors import DatasetError, ImageError

PARTS = (("train", "test"), ("training", "testing"), ("train", "val"), ("train", "validation"))
SHOWN = 3  # pictures in an error message

# Applies a function to each path, perhaps in parallel, and yields (path, its result or an ImageError).
Reader = Callable[[Sequence[Path], Callable[[Any], Any]], Iterable[tuple[str, Any]]]


def from_folder(
    folder: str | PathLike[str],
    test_folder: str | PathLike[str] | None = None,
    *,
    reader: Reader | None = None,
    **options: Unpack[DataOptions],
) -> Dataset:
    """Make a data set from a folder that holds a folder of pictures for each class, named as the class.

    Where all pictures are 28x28, they are taken as they are, white on black. Others are prepared as MNIST's
    were: see `mnist_jax.preprocess`. With `resize`, they are scaled to 28x28 whole, for other things than
    handwriting.

    Args:
        folder: the folder. It may hold `train` and `test` with a folder for each class in both.
        test_folder: the test set, in the same form; None to hold out a share of each class.
        reader: applies a function to all paths; by default in threads.
        options: see `DataOptions`.

    Raises:
        DatasetError: if there are no pictures, or one cannot be read or does not show one digit or letter;
            says which.
        InputError, SpecError: as `from_arrays`.

    Examples:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from mnist_jax import data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("left", "right"):
        ...         pathlib.Path(folder, name).mkdir()
        ...         for number in range(5):
        ...             pixels = np.zeros((28, 28), np.uint8)
        ...             pixels[5:20, 5 if name == "left" else 20] = 255 - number
        ...             Image.fromarray(pixels).save(f"{folder}/{name}/{number}.png")
        ...     lines = data.from_folder(folder, validation_fraction=0)
        >>> lines.classes, len(lines.train), len(lines.test)
        (('left', 'right'), 8, 2)
    """
    folder = Path(folder)
    train_folder, inner_test = _parts(folder)
    test_folder = inner_test if test_folder is None else Path(test_folder)
    reader = reader or _in_threads
    resize = bool(options.get("resize"))
    train = _part(train_folder, resize, reader)
    test = None if test_folder is None else _part(test_folder, resize, reader)
    # They are 28x28 now; what was not was prepared, or scaled.
    return build(train, test, {**options, "resize": False}, folder.resolve().name)


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each class, by the names of the folders in a folder, in natural order.

    Raises:
        DatasetError: if some of the folders hold pictures, and one does not.
    """
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    of_class = {path.name: _pictures(path) for path in sorted(inner, key=lambda path: natural(path.name))}
    empty = [name for name, pictures in of_class.items() if not pictures]
    if empty and len(empty) < len(of_class):
        raise DatasetError(f"{folder / empty[0]} must hold pictures of its class; got none; or remove it")
    return {} if empty else of_class


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _parts(folder: Path) -> tuple[Path, Path | None]:
    """The folders of the training and the test set."""
    try:
        names = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    except OSError as error:
        raise DatasetError(f"{folder} cannot be read: {error.strerror or error}") from None
    for train, test in PARTS:
        if train in names and test in names:
            if unused := sorted({"val", "valid", "validation"} & set(names) - {test}):
                warnings.warn(
                    f"{names[unused[0]]} is not used: a share of {names[train]} is for validation",
                    stacklevel=3,
                )
            return names[train], names[test]
    return folder, None


def _part(folder: Path, resize: bool, reader: Reader) -> Part:
    try:
        of_class = class_folders(folder)
    except OSError as error:
        raise DatasetError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from None
    if len(of_class) < 2:
        got = f"one, {next(iter(of_class))!a}" if of_class else "none"
        kinds = ", ".join(sorted(SUFFIXES))
        raise DatasetError(f"{folder} must hold a folder of pictures ({kinds}) for each class; got {got}")
    paths = [path for pictures in of_class.values() for path in pictures]
    labels = [name for name, pictures in of_class.items() for _ in pictures]
    as_they_are = all(_size(path) == IMAGE_SHAPE for path in paths)
    convert = gray if as_they_are else scaled if resize else prepare
    images: list[tuple[str, np.ndarray]] = []
    failed: list[tuple[str, Exception]] = []
    for name, result in reader(paths, convert):
        (failed if isinstance(result, Exception) else images).append((name, result))
    if failed:
        raise DatasetError(_why(failed, len(paths), resize))
    return Part(np.stack([image for _, image in images]), np.array(labels), str(folder))


def _why(failed: list[tuple[str, Exception]], count: int, resize: bool) -> str:
    reasons = "; ".join(
        str(error) if name in str(error) else f"{name}: {error}" for name, error in failed[:SHOWN]
    )
    more = f"; and {len(failed) - SHOWN:,} more" if len(failed) > SHOWN else ""
    hint = "" if resize else "; or scale all pictures as they are: resize=True, or --resize"
    reasons += f"{more}; move them away{hint}"
    return f"all {count:,} pictures must be readable; {len(failed):,} are not: {reasons}"


def _size(path: Path) -> tuple[int, int] | None:
    """Height and width from the header of a picture; None if it cannot be read."""
    try:
        return read(path).size[::-1]
    except ImageError:
        return None


def _in_threads(paths: Sequence[Path], convert: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    with ThreadPoolExecutor() as pool:
        yield from pool.map(partial(converted, convert), paths)
