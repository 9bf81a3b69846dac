"""Loading of data sets as uint8 NumPy arrays, split into training, validation and test sets."""

import hashlib
import importlib.util
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_jax.config.input_checks import as_labels
from mnist_jax.config.networks import IMAGE_SHAPE
from mnist_jax.config.training import check_fraction
from mnist_jax.config.validation import check_choice
from mnist_jax.data import cache, folders, registry
from mnist_jax.data.examples import Examples, TestSet
from mnist_jax.data.formats import idx
from mnist_jax.data.preprocess import resize
from mnist_jax.data.registry import DATASETS
from mnist_jax.errors import DatasetError, InputError, SpecError


@dataclass(frozen=True)
class Dataset:
    """A data set, split into training, validation and test sets.

    Attributes:
        name: name of the data set, such as `mnist`.
        sha256: checksum over the checksums of the four uncompressed files, independent of their source.
        classes: names of the ten classes.
        train: images uint8 `[n, 28, 28]` and labels uint8 `[n]`.
        validation: a part of the training set for model selection, or None if its fraction is 0.
        test: the test set, of a type that `fit` does not accept.

    Examples:
        >>> import mnist_jax
        >>> data = mnist_jax.load("digits")
        >>> len(data.train), len(data.validation), len(data.test)
        (1350, 150, 297)
        >>> data.train.images.shape, data.classes[:3]
        ((1350, 28, 28), ('0', '1', '2'))
    """

    name: str
    sha256: str
    classes: tuple[str, ...]
    train: Examples
    validation: Examples | None
    test: TestSet

    def __repr__(self) -> str:
        parts = {"training": self.train, "validation": self.validation, "test": self.test}
        counts = ", ".join(f"{len(part):,} {name}" for name, part in parts.items() if part is not None)
        return f"Dataset({self.name}: {len(self.classes)} classes, {counts} images)"


def load(
    name: str = "mnist",
    data_dir: str | os.PathLike[str] | None = None,
    *,
    validation_fraction: float = 0.1,
    validation_seed: int | None = None,
) -> Dataset:
    """Load a data set from `data_dir`, the cache or the network, in this order.

    Args:
        name: `mnist`, `fashion_mnist` or `kmnist`; or `digits`, 1,797 scans of 8x8 pixels that are part of
            scikit-learn, scaled to 20x20 and centered in 28x28 as in MNIST.
        data_dir: a folder with the four official files, gzipped or not, or with Keras's `mnist.npz`, in it
            or in a subfolder named after the data set, such as torchvision's `MNIST/raw`. Defaults to the
            environment variable `MNIST_JAX_DATA_DIR`.
        validation_fraction: fraction of the training set for validation, in [0, 1).
        validation_seed: seed of a random validation set; None takes the end of the training set, as Keras
            does.

    Returns:
        The data set; its images are uint8 0..255, white on black.

    Raises:
        SpecError: if there is no such data set, or the fraction or the seed is invalid.
        DatasetUnavailableError: if the files are not on this machine and cannot be downloaded.
        DatasetError: if a file is damaged or has the wrong content; says which and what was expected.

    Examples:
        >>> import mnist_jax
        >>> data = mnist_jax.load("digits", validation_fraction=0)
        >>> len(data.train), data.validation
        (1500, None)
    """
    check_choice("data set", name, DATASETS)
    check_fraction(validation_fraction)
    if validation_seed is not None and not (type(validation_seed) is int and validation_seed >= 0):
        raise SpecError(f"validation seed must be a whole number of at least 0; got {validation_seed!r}")
    raws = _digits() if name == "digits" else cache.read(name, folders.named(data_dir))
    train, test = _labeled(name, "training", *raws[:2]), _labeled(name, "test", *raws[2:])
    train, validation = _split(train, validation_fraction, validation_seed)
    return Dataset(
        name=name,
        sha256=hashlib.sha256("".join(raw.sha256 for raw in raws).encode()).hexdigest(),
        classes=registry.classes(name),
        train=train,
        validation=validation,
        test=TestSet(test.images, test.labels),
    )


def _labeled(name: str, part: str, images: cache.Raw, labels: cache.Raw) -> Examples:
    """Images with their labels, checked against each other."""
    try:
        as_labels(labels.array, len(images.array), num_classes=len(registry.classes(name)))
    except InputError as error:
        raise DatasetError(f"{name}'s {part} files must match each other: {error}") from None
    if not len(images.array):
        raise DatasetError(f"{name}'s {part} files must hold at least one image; got none")
    if images.array.shape[1:] != IMAGE_SHAPE:
        raise DatasetError(f"{name}'s {part} images must be 28x28; got {images.array.shape[1:]}")
    return Examples(images.array, labels.array)


def _split(train: Examples, fraction: float, seed: int | None) -> tuple[Examples, Examples | None]:
    if fraction == 0:
        return train, None
    count = len(train)
    split = math.floor(count * (1 - fraction))  # rounded as in Keras
    if split in (0, count):
        raise SpecError(
            f"validation fraction {fraction} must leave examples for training and validation, of {count:,}"
        )
    if seed is None:  # slices, so that a memory map stays on disk
        return train[:split], train[split:]
    order = np.random.default_rng(seed).permutation(count)
    return train[np.sort(order[:split])], train[np.sort(order[split:])]


def _digits() -> list[cache.Raw]:
    """scikit-learn's digits: the first 1,500 for training, the last 297 for testing."""
    rows = _digit_rows()
    images, labels = _frame(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)), rows[:, -1].astype(np.uint8)
    parts = images[:1500], labels[:1500], images[1500:], labels[1500:]
    return [cache.Raw(part, hashlib.sha256(idx.encode(part)).hexdigest()) for part in parts]


def _digit_rows() -> np.ndarray:
    """64 pixels, 0 to 16, and the label of each scan, float64 `[1797, 65]`.

    Read from scikit-learn's file, since its import takes longer than to train on them.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder, "datasets", "data", "digits.csv.gz")).is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # of a version that keeps it elsewhere

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _frame(scans: np.ndarray) -> np.ndarray:
    """Scale 8x8 images to 20x20, bilinearly, and center them in 28x28, with the margins of MNIST."""
    scaled = np.rint(resize(scans, 20, 20)).astype(np.uint8)
    return np.pad(scaled, ((0, 0), (4, 4), (4, 4)))
