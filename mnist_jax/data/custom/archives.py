"""A `Dataset` from an `.npz` file."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Unpack

import numpy as np

from mnist_jax.data.custom.arrays import DataOptions, Part, build, name_of
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.formats import npz
from mnist_jax.errors import DatasetError

# The names that people give to images and labels, and those of the test set.
NAMES = (
    (("x_train", "y_train"), ("x_test", "y_test")),  # Keras
    (("train_images", "train_labels"), ("test_images", "test_labels")),  # MedMNIST
    (("images", "labels"), ("test_images", "test_labels")),
    (("x", "y"), ("x_test", "y_test")),
    (("X", "y"), ("X_test", "y_test")),
    (("data", "target"), ("test_data", "test_target")),  # scikit-learn
)


def from_npz(path: str | PathLike[str], **options: Unpack[DataOptions]) -> Dataset:
    """Make a data set from an `.npz` file, as `numpy.savez` writes it.

    It holds `images` and `labels`, and perhaps `test_images` and `test_labels`; or `x` and `y`, or Keras's
    names `x_train`, `y_train`, `x_test` and `y_test`. Without a test set, a share of each class is held out.

    Args:
        path: the file.
        options: see `DataOptions`.

    Raises:
        DatasetError: if the file cannot be read, is damaged, or has other names.
        InputError, SpecError: as `from_arrays`.

    Examples:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from mnist_jax import data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "letters.npz")
        ...     images = np.random.default_rng(0).integers(0, 256, (40, 28, 28))
        ...     np.savez(path, images=images, labels=["a", "b"] * 20)
        ...     letters = data.from_npz(path, validation_fraction=0)
        >>> letters.name, letters.classes, len(letters.train), len(letters.test)
        ('letters', ('a', 'b'), 32, 8)
    """
    path = Path(path)
    try:
        arrays = npz.read(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None
    for train, test in NAMES:
        if set(train) <= set(arrays):
            return build(_part(arrays, train, path), _test(arrays, test, path), options, name_of(path))
    got = ", ".join(f"{name!a}" for name in list(arrays)[:8]) or "none"
    raise DatasetError(
        f"{path} must hold images and labels, or x_train, y_train, x_test and y_test; got {got}"
    )


def _part(arrays: Mapping[str, np.ndarray], names: tuple[str, str], path: Path) -> Part:
    images, labels = names
    return Part(arrays[images], arrays[labels], str(path))


def _test(arrays: Mapping[str, np.ndarray], names: tuple[str, str], path: Path) -> Part | None:
    found = [name for name in names if name in arrays]
    if len(found) == 1:
        missing = next(name for name in names if name not in arrays)
        raise DatasetError(f"{path} must hold {missing} beside {found[0]}; it does not")
    return _part(arrays, names, path)._replace(what=f"{path} test") if found else None
