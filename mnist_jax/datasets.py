"""`load(name)`: a data set as uint8 NumPy arrays, split into training, validation and test."""

import hashlib
import math
import os
from dataclasses import dataclass

import numpy as np

from mnist_jax import folders, idx, sources, store
from mnist_jax.checks import as_labels
from mnist_jax.errors import DatasetError, InputError, SpecError
from mnist_jax.networks import IMAGE_SHAPE
from mnist_jax.prepare import resize
from mnist_jax.settings import check_one_of
from mnist_jax.sources import DATASETS
from mnist_jax.specs import check_fraction
from mnist_jax.types import Examples, HeldOut


@dataclass(frozen=True)
class Dataset:
    """Images to train on, to choose with, and to test with.

    Attributes:
        name: such as `mnist`.
        sha256: of the four files' sums, unzipped; the same wherever the files came from.
        classes: the ten names.
        train: uint8 `[n, 28, 28]` and uint8 `[n]`.
        validation: taken from the training set; None where its fraction is zero.
        test: a type of its own, which `fit` does not take.
    """

    name: str
    sha256: str
    classes: tuple[str, ...]
    train: Examples
    validation: Examples | None
    test: HeldOut


def load(
    name: str = "mnist",
    data_dir: str | os.PathLike[str] | None = None,
    *,
    validation_fraction: float = 0.1,
    validation_seed: int | None = None,
) -> Dataset:
    """Loads a data set: from `data_dir`, else from the cache, else from the network.

    Args:
        name: `mnist`, `fashion_mnist` or `kmnist`; or `digits`, 1,797 real scans of 8x8 pixels that
            come with scikit-learn, here scaled to 20x20 and centred in 28x28 as MNIST's are.
        data_dir: a folder with the four official files, gzipped or not, or with Keras's `mnist.npz`; or one
            with a folder of the data set's name that has them, such as torchvision's `MNIST/raw`. Default:
            the environment variable `MNIST_JAX_DATA_DIR`.
        validation_fraction: the share of the training set to hold out, 0 to below 1.
        validation_seed: None takes it from the end, unshuffled, as Keras does; a number draws it.

    Raises:
        SpecError: no such data set, or no such fraction.
        DatasetUnavailableError: it is not on this machine and cannot be fetched; says what was tried.
        DatasetError: a file is damaged, or is not what it should be; says which, and what was expected.
    """
    check_one_of("data set", name, DATASETS)
    check_fraction(validation_fraction)
    if validation_seed is not None and not (type(validation_seed) is int and validation_seed >= 0):
        raise SpecError(f"validation seed must be a whole number of at least 0; got {validation_seed!r}")
    raws = _digits() if name == "digits" else store.read(name, folders.named(data_dir))
    train, test = _labelled(name, "training", *raws[:2]), _labelled(name, "test", *raws[2:])
    kept, validation = _split(train, validation_fraction, validation_seed)
    return Dataset(
        name=name,
        sha256=hashlib.sha256("".join(raw.sha256 for raw in raws).encode()).hexdigest(),
        classes=sources.classes(name),
        train=kept,
        validation=validation,
        test=HeldOut(test.images, test.labels),
    )


def _labelled(name: str, part: str, images: store.Raw, labels: store.Raw) -> Examples:
    """Images with their labels, once they fit each other."""
    try:
        as_labels(labels.array, len(images.array))
    except InputError as error:
        raise DatasetError(f"{name}'s {part} files do not fit each other: {error}") from None
    if not len(images.array):
        raise DatasetError(f"{name}'s {part} files must hold at least one image; got none")
    if images.array.shape[1:] != IMAGE_SHAPE:
        raise DatasetError(f"{name}'s {part} images must be 28x28; got {images.array.shape[1:]}")
    return Examples(images.array, labels.array)


def _split(train: Examples, fraction: float, seed: int | None) -> tuple[Examples, Examples | None]:
    if fraction == 0:
        return train, None
    count = len(train)
    kept = math.floor(count * (1 - fraction))  # Keras's rounding
    if kept in (0, count):
        raise SpecError(f"validation fraction {fraction} must leave examples on both sides of {count:,}")
    if seed is None:  # slices, which leave a memory map on the disk
        return train[:kept], train[kept:]
    order = np.random.default_rng(seed).permutation(count)
    return train[np.sort(order[:kept])], train[np.sort(order[kept:])]


def _digits() -> list[store.Raw]:
    """scikit-learn's scans: the first 1,500 to train on, the last 297 to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = _frame(bunch.images * (255 / 16)), bunch.target.astype(np.uint8)
    parts = images[:1500], labels[:1500], images[1500:], labels[1500:]
    return [store.Raw(part, hashlib.sha256(idx.encode(part)).hexdigest()) for part in parts]


def _frame(scans: np.ndarray) -> np.ndarray:
    """8x8 pictures scaled to 20x20, bilinear, in the middle of 28x28: MNIST's margins."""
    scaled = np.rint(resize(scans, 20, 20)).astype(np.uint8)
    return np.pad(scaled, ((0, 0), (4, 4), (4, 4)))
