"""A `Dataset` from CSV files."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Unpack

from mnist_jax.data.custom.arrays import DataOptions, Part, build, name_of
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.formats import csv
from mnist_jax.errors import DatasetError


def from_csv(
    path: str | PathLike[str],
    test_path: str | PathLike[str] | None = None,
    *,
    say: Callable[[str], None] | None = None,
    **options: Unpack[DataOptions],
) -> Dataset:
    r"""Make a data set from a CSV file with a label and 784 pixels in each row, such as Kaggle's `train.csv`.

    A header is recognized. The label is the column named `label`, `class`, `target` or `y`, or else the
    first, or the last beside columns whose names begin alike. It is a number or a string.

    Args:
        path: the training set.
        test_path: the test set, in the same form; None to hold out a share of each class.
        say: called with messages about the progress of long reads.
        options: see `DataOptions`.

    Raises:
        DatasetError: if a file cannot be read or has another form, or a row is ragged; says which line.
        InputError, SpecError: as `from_arrays`.

    Examples:
        >>> import pathlib, tempfile
        >>> from mnist_jax import data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "letters.csv")
        ...     rows = [",".join([letter, str(i), *["0"] * 782, "255"]) for i, letter in enumerate("abab")]
        ...     _ = path.write_text("\n".join(rows))
        ...     letters = data.from_csv(path, validation_fraction=0, test_fraction=0.5)
        >>> letters.name, letters.classes, len(letters.train), len(letters.test)
        ('letters', ('a', 'b'), 2, 2)
    """
    train = _part(Path(path), say)
    test = None if test_path is None else _part(Path(test_path), say)
    return build(train, test, options, name_of(Path(path)))


def _part(path: Path, say: Callable[[str], None] | None) -> Part:
    table = csv.read(path, say)
    if table.labels is None:
        raise DatasetError(
            f"{path} must have a column named label, or one more than the pixels; got "
            f"{table.images[0].size:,} columns; `mnist-jax predict` takes rows without labels"
        )
    note = "" if table.guessed is None else f" (its {table.guessed} column, since none is named `label`)"
    return Part(table.images, table.labels, str(path), note)
