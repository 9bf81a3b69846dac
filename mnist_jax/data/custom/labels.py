"""Labels of any usual form as class numbers from 0, with the names of the classes."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_jax.config.networks import LABELS, MAX_CLASSES, are_labels
from mnist_jax.config.validation import shorten
from mnist_jax.data.custom.pixels import as_numpy
from mnist_jax.errors import DatasetError, InputError

SHOWN = 5  # values in an error message


def as_values(labels: Any, what: str = "labels") -> np.ndarray:
    """Return labels as integers or strings `[n]`.

    Args:
        labels: whole numbers or strings, `[n]` or `[n, 1]`; or one-hot `[n, classes]`.
        what: name of the labels in error messages.

    Raises:
        InputError: if they are anything else.
    """
    array = as_numpy(what, labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "buif":
        array = _from_one_hot(array, what)
    if array.ndim != 1:
        raise InputError(f"{what} must be [n], or one-hot [n, classes]; got {list(array.shape)}")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U":
        return np.char.strip(array)
    if array.dtype.kind not in "buif":
        raise InputError(f"{what} must be whole numbers or strings; got {array.dtype}")
    if array.dtype.kind == "f":
        wrong = ~(np.isfinite(array) & (array == np.rint(array)))
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(f"{what} must be whole numbers or strings; got {array[row]:g} at index {row:,}")
    if len(array) and not (array.min() >= -(2**31) and array.max() < 2**31):
        raise InputError(f"{what} must be whole numbers below 2**31; got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _from_one_hot(array: np.ndarray, what: str) -> np.ndarray:
    ones = array == 1
    wrong = (ones.sum(axis=1) != 1) | ((array != 0) & ~ones).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{what} must be [n], or one-hot [n, classes] with a single 1 in each row; "
            f"got {shorten(array[row].tolist(), 60)} at index {row:,}; for scores: {what}.argmax(axis=1)"
        )
    return np.asarray(array.argmax(axis=1))


def names_of(
    values: np.ndarray, classes: Sequence[str] | None, what: str = "labels"
) -> tuple[list[Any], tuple[str, ...]]:
    """Find the classes of a training set.

    Args:
        values: its labels, from `as_values`.
        classes: names of the classes, in the order of their numbers; for strings, the strings in the order
            that the classes shall have. None for the labels themselves, in their natural order.
        what: name of the labels in error messages.

    Returns:
        The label of each class, and its name.

    Raises:
        DatasetError: if a class has no example, there are fewer than 2 or more than 1,000 classes, or a name
            is not fit for one.
    """
    found = sorted(set(values.tolist()), key=natural)
    if classes is not None:
        classes = [str(name) for name in classes]
        if not are_labels(classes):
            raise DatasetError(f"classes must be 2 to {MAX_CLASSES:,} {LABELS}; got {shorten(classes)}")
    if not 2 <= len(found) <= MAX_CLASSES:
        raise DatasetError(
            f"{what} must have 2 to {MAX_CLASSES:,} classes; got {len(found):,}: {_listed(found)}"
        )
    if values.dtype.kind == "U":
        return _by_name(found, classes, what)
    if classes is None:
        expected = range(min(found[0], 1), found[-1] + 1)  # numbered from 0 or from 1
        if missing := sorted(set(expected) - set(found)):
            raise DatasetError(
                f"{what} must have an example of every class from {expected[0]} to {found[-1]}; got none of "
                f"{_listed(missing)}; if they are no classes, name the {len(found)} that are: classes=, or "
                "--classes"
            )
        return found, tuple(map(str, found))
    if len(classes) == len(found):
        return found, tuple(classes)
    if len(found) < len(classes) and found[0] >= 0 and found[-1] < len(classes):
        unused = [name for index, name in enumerate(classes) if index not in found]
        raise DatasetError(f"{what} must have an example of every class; got none of {_listed(unused)}")
    raise DatasetError(
        f"classes must name each of the {len(found)} classes of {what}; got {len(classes)} names"
    )


def _by_name(found: list[str], classes: Sequence[str] | None, what: str) -> tuple[list[Any], tuple[str, ...]]:
    if "" in found:
        raise DatasetError(f"{what} must not be empty; some are")
    if not are_labels(found):
        raise DatasetError(f"{what} must be {LABELS}; got {_listed(found)}")
    if classes is None:
        return found, tuple(found)
    if odd := sorted(set(found) - set(classes)):
        raise DatasetError(f"{what} must be among classes; got {_listed(odd)}")
    if missing := [name for name in classes if name not in found]:
        raise DatasetError(f"{what} must have an example of every class; got none of {_listed(missing)}")
    return list(classes), tuple(classes)


def encode(values: np.ndarray, known: Sequence[Any], what: str = "labels") -> np.ndarray:
    """Encode labels as the numbers of their classes, uint8 or uint16 `[n]`.

    Args:
        values: labels from `as_values`.
        known: the label of each class, from `names_of`.
        what: name of the labels in error messages.

    Raises:
        DatasetError: if a label is none of them.
    """
    numbers = {label: index for index, label in enumerate(known)}
    unique, inverse = np.unique(values, return_inverse=True)
    if odd := [label for label in unique.tolist() if label not in numbers]:
        raise DatasetError(f"{what} must be among those of the training set; got {_listed(odd)}")
    dtype = np.uint8 if len(known) <= 256 else np.uint16
    return np.array([numbers[label] for label in unique.tolist()], dtype)[inverse]


def natural(label: Any) -> tuple[Any, ...]:
    """A sort key that puts 2 before 10, also inside strings."""
    if isinstance(label, int):
        return (label,)
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", label)
    )


def _listed(labels: Sequence[Any]) -> str:
    return ", ".join(shorten(label, 40) for label in labels[:SHOWN]) + ", ..." * (len(labels) > SHOWN)
