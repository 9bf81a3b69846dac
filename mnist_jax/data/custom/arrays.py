"""A `Dataset` from arrays; all other sources end here."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np

from mnist_jax.config.networks import IMAGE_SHAPE
from mnist_jax.config.training import check_fraction
from mnist_jax.config.validation import check_float, is_label
from mnist_jax.data.custom.labels import as_values, encode, names_of
from mnist_jax.data.custom.pixels import as_pixels, check_same_length
from mnist_jax.data.custom.splits import count_shared, stratified
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples, TestSet
from mnist_jax.data.formats import idx
from mnist_jax.errors import DatasetError, InputError, SpecError


class DataOptions(TypedDict, total=False):
    """Options of all sources of data.

    Attributes:
        classes: names of the classes, in the order of their numbers; by default the labels.
        test_fraction: share of each class held out for the test set where there is none, 0.2 by default.
        validation_fraction: share of each class of the training set for validation, 0.1 by default.
        seed: seed of both choices, 0 by default.
        invert: whether the images are black on white.
        resize: whether to scale images of other sizes to 28x28.
        name: name of the data set; by default that of the file.
    """

    classes: Sequence[str] | None
    test_fraction: float
    validation_fraction: float
    seed: int
    invert: bool
    resize: bool
    name: str | None


def name_of(path: Path) -> str:
    """The name of a data set from that of its file, or of the folder where the file's name says nothing."""
    stem = path.stem
    return path.absolute().parent.name if stem.lower() in ("train", "training", "data") else stem


class Part(NamedTuple):
    """Images and labels as they were read.

    Attributes:
        images: the images.
        labels: their labels.
        what: where they come from, for error messages.
        note: which labels they are, likewise.
    """

    images: Any
    labels: Any
    what: str = ""
    note: str = ""


def from_arrays(
    images: Any, labels: Any, test: tuple[Any, Any] | None = None, **options: Unpack[DataOptions]
) -> Dataset:
    """Make a data set from arrays, tensors or lists.

    Args:
        images: `[n, 28, 28]`, `[n, 28, 28, 1]`, `[n, 1, 28, 28]` or `[n, 784]`, white on black: integers or
            floats in 0..255, floats in 0..1, or booleans. Other sizes need `resize=True`.
        labels: whole numbers or strings `[n]`, or one-hot `[n, classes]`; 2 to 1,000 classes.
        test: images and labels of the test set; None to hold out a share of each class.
        options: see `DataOptions`.

    Returns:
        The data set, its images as uint8 0..255.

    Raises:
        InputError: if images or labels have another shape, dtype or range; says what would convert them.
        DatasetError: if a class has no example or too few, or images and labels do not match.
        SpecError: if an option is invalid.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import data
        >>> images = np.random.default_rng(0).random((40, 784))
        >>> letters = data.from_arrays(images, ["a", "b"] * 20, name="letters")
        >>> letters.classes, len(letters.train), len(letters.validation), len(letters.test)
        (('a', 'b'), 29, 3, 8)
    """
    return build(Part(images, labels), None if test is None else _test_part(test), options)


def _test_part(test: Any) -> Part:
    if not isinstance(test, tuple | list) or len(test) != 2:
        raise InputError(f"test must be a pair of images and labels; got {type(test).__name__}")
    return Part(test[0], test[1], "test")


def build(train: Part, test: Part | None, options: DataOptions, name: str = "custom") -> Dataset:
    """Check and convert images and labels, and split them.

    Args:
        train: the training set, with the test set in it if there is no other.
        test: the test set, or None.
        options: as for `from_arrays`.
        name: name of the data set, where the options have none.
    """
    test_fraction, validation_fraction, seed = _checked(options)
    name = options.get("name") or name
    if not is_label(name):
        raise SpecError(f"a data set's name must be short and printable; got {name!r}")
    images, values = _converted(train, options)
    known, classes = names_of(values, options.get("classes"), _named(train, "labels"))
    labels = encode(values, known)
    if test is not None:
        test_images, test_values = _converted(test, options)
        test_labels = encode(test_values, known, _named(test, "labels"))
    else:
        rows, held_out = stratified(labels, test_fraction, seed, at_least=1)
        test_images, test_labels = images[held_out], labels[held_out]
        images, labels = images[rows], labels[rows]
    if shared := count_shared(images, test_images):
        warnings.warn(
            f"{shared:,} of {len(test_images):,} test images are also training images, so that the test "
            "accuracy says too much; remove duplicates",
            stacklevel=3,
        )
    sha256 = digest(classes, images, labels, test_images, test_labels)
    validation = None
    if validation_fraction:
        rows, chosen = stratified(labels, validation_fraction, seed)
        if not len(chosen):
            raise SpecError(
                f"validation fraction {validation_fraction:g} must leave examples for validation, "
                f"of {len(labels):,}; use 0 for none"
            )
        validation = Examples(images[chosen], labels[chosen])
        images, labels = images[rows], labels[rows]
    return Dataset(
        name, sha256, classes, Examples(images, labels), validation, TestSet(test_images, test_labels)
    )


def _checked(options: DataOptions) -> tuple[float, float, int]:
    test_fraction = check_float("test fraction", options.get("test_fraction", 0.2), 0, 1, open_low=True)
    validation_fraction, seed = options.get("validation_fraction", 0.1), options.get("seed", 0)
    check_fraction(validation_fraction)
    if not (type(seed) is int and seed >= 0):
        raise SpecError(f"seed must be a whole number of at least 0; got {seed!r}")
    if odd := sorted(set(options) - set(DataOptions.__annotations__)):
        raise SpecError(f"options must be among {', '.join(DataOptions.__annotations__)}; got {odd[0]!r}")
    return test_fraction, validation_fraction, seed


def _converted(part: Part, options: DataOptions) -> tuple[np.ndarray, np.ndarray]:
    flags = {"invert": options.get("invert", False), "resize": options.get("resize", False)}
    images = as_pixels(part.images, _named(part, "images"), **flags)
    values = as_values(part.labels, _named(part, "labels"))
    check_same_length(images, values, part.what or "the arrays")
    return images, values


def _named(part: Part, what: str) -> str:
    named = f"{part.what} {what}" if part.what else what
    return named + part.note if what == "labels" else named


def digest(classes: Sequence[str], *arrays: np.ndarray) -> str:
    """The checksum of a data set: of the names of its classes, and of its arrays as IDX files."""
    if any(array.shape[1:] not in ((), IMAGE_SHAPE) for array in arrays):
        raise DatasetError("a data set must have images [n, 28, 28] and labels [n]")
    sums = [hashlib.sha256(json.dumps(list(classes)).encode()).hexdigest()]
    for array in arrays:
        content = hashlib.sha256(idx.header(array.shape))
        content.update(np.ascontiguousarray(array))
        sums.append(content.hexdigest())
    return hashlib.sha256("".join(sums).encode()).hexdigest()
