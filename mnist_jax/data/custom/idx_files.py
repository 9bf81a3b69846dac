"""A `Dataset` from IDX files of any name."""

from os import PathLike
from pathlib import Path
from typing import Unpack

import numpy as np

from mnist_jax.data.custom.arrays import DataOptions, Part, build
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.formats import idx
from mnist_jax.errors import DatasetError

TEST_WORDS = ("test", "t10k", "valid")


def from_idx(
    images: str | PathLike[str],
    labels: str | PathLike[str] | None = None,
    test_images: str | PathLike[str] | None = None,
    test_labels: str | PathLike[str] | None = None,
    *,
    transposed: bool = False,
    **options: Unpack[DataOptions],
) -> Dataset:
    """Make a data set from IDX files, the format of MNIST, gzipped or not, such as EMNIST's and QMNIST's.

    Labels with columns, as QMNIST's, have the class in the first one. A file `...mapping.txt` beside the
    images, as EMNIST's, names the classes: a label and its character codes in each line.

    Args:
        images: images, `[n, 28, 28]`; or a folder with all files.
        labels: their labels; None to find the file beside the images.
        test_images: images of the test set; None to find them beside the others, or to hold out a share of
            each class where there are none.
        test_labels: their labels.
        transposed: whether rows and columns are exchanged, as in EMNIST.
        options: see `DataOptions`.

    Raises:
        DatasetError: if a file cannot be read, is damaged, or does not match the others; or if it is not
            clear which files belong together.
        InputError, SpecError: as `from_arrays`.

    Examples:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from mnist_jax import data
        >>> from mnist_jax.data.formats import idx
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images = np.random.default_rng(0).integers(0, 256, (20, 28, 28))
        ...     for name, array in (("images", images), ("labels", np.array([1, 2] * 10))):
        ...         _ = pathlib.Path(folder, f"letters-{name}").write_bytes(idx.encode(array))
        ...     letters = data.from_idx(folder, validation_fraction=0)
        >>> letters.classes, len(letters.train), len(letters.test)
        (('1', '2'), 16, 4)
    """
    try:
        paths = _found(Path(images), labels, test_images, test_labels)
        train = _part(*paths[:2], transposed)
        test = None if paths[2] is None or paths[3] is None else _part(paths[2], paths[3], transposed)
        if options.get("classes") is None and (names := _mapped(paths[0], train.labels)):
            options = {**options, "classes": names}
    except OSError as error:
        raise DatasetError(f"{error.filename or images} cannot be read: {error.strerror or error}") from None
    return build(train, test, options, _name(paths[0]))


def _found(
    images: Path, labels: str | PathLike[str] | None, *test: str | PathLike[str] | None
) -> tuple[Path, Path, Path | None, Path | None]:
    """The files of both parts: those given, and the others by the names beside them."""
    if images.is_dir():
        files = image_files(images)
        train = [path for path in files if not _is_test(path)]
        if len(train) != 1:
            got = ", ".join(path.name for path in train[:8]) or "none"
            raise DatasetError(
                f"{images} must hold one IDX file of training images; got {got}; name the file itself"
            )
        images = train[0]
    labels = Path(labels) if labels is not None else _labels_of(images)
    test_images = Path(test[0]) if test[0] is not None else _test_of(images)
    if test_images is None:
        return images, labels, None, None
    return images, labels, test_images, Path(test[1]) if test[1] is not None else _labels_of(test_images)


def image_files(folder: Path) -> list[Path]:
    """The IDX files of images in a folder."""
    return [path for path in _idx_files(folder) if len(idx.axes_of(path)) == 3]


def _idx_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and idx.is_idx(path)]


def _is_test(path: Path) -> bool:
    return any(word in path.name.lower() for word in TEST_WORDS)


def _labels_of(images: Path) -> Path:
    """The file of labels beside images: with their number of rows, and the most similar name."""
    count = idx.axes_of(images)[0]
    fitting = []
    for path in _idx_files(images.parent):
        shape = idx.axes_of(path)
        if len(shape) in (1, 2) and shape[0] == count:
            fitting.append(path)
    if len(fitting) > 1:
        fitting = [path for path in fitting if _key(path) == _key(images)] or fitting
    if len(fitting) != 1:
        got = ", ".join(path.name for path in fitting[:8]) or "none"
        raise DatasetError(
            f"{images} must have one IDX file of {count:,} labels beside it, named alike; got {got}"
        )
    return fitting[0]


def _key(path: Path) -> str:
    """A name without what tells images from labels."""
    name = path.name.lower().removesuffix(".gz")
    for word in (
        "images",
        "image",
        "imgs",
        "labels",
        "label",
        "labs",
        "idx1",
        "idx2",
        "idx3",
        "ubyte",
        "int",
    ):
        name = name.replace(word, "")
    return "".join(letter for letter in name if letter.isalnum())


def _test_of(images: Path) -> Path | None:
    """The images of the test set beside those of the training set: named alike."""
    key = _key(images)
    candidates = [
        path
        for path in image_files(images.parent)
        if _is_test(path)
        and any(_key(path) == key.replace("train", word) for word in ("test", "t10k", "testing"))
    ]
    if len(candidates) > 1:
        got = ", ".join(path.name for path in candidates)
        raise DatasetError(f"{images} must have one test set beside it; got {got}")
    return candidates[0] if "train" in key and candidates else None


def _part(images: Path, labels: Path, transposed: bool) -> Part:
    pictures, values = idx.read(images), idx.read(labels)
    if pictures.ndim != 3:
        raise DatasetError(f"{images} must have 3 axes, [n, 28, 28]; got {list(pictures.shape)}")
    if values.ndim not in (1, 2) or not values.size:
        raise DatasetError(f"{labels} must have a label for each image; got {list(values.shape)}")
    values = values if values.ndim == 1 else values[:, 0]
    return Part(pictures.swapaxes(1, 2) if transposed else pictures, values, str(images))


def _mapped(images: Path, labels: np.ndarray) -> list[str]:
    """The names of the classes from EMNIST's mapping file beside the images; none where there is none."""
    files = sorted(images.parent.glob("*mapping.txt"))
    alike = [path for path in files if images.name.startswith(path.name.removesuffix("-mapping.txt"))]
    if not alike and len(files) > 1:
        return []
    for path in alike or files:
        try:
            lines = path.read_text("ascii").splitlines()
            rows = [[int(word) for word in line.split()] for line in lines if line.strip()]
            names = {row[0]: "".join(map(chr, dict.fromkeys(row[1:]))) for row in rows}
        except (ValueError, IndexError, OverflowError):
            return []
        found = np.unique(labels).tolist()
        if set(found) <= set(names):
            return [names[label] for label in found]
    return []


def _name(path: Path) -> str:
    """The name of a data set from that of its training images: `emnist-letters-train-images` is letters."""
    stem = path.name.removesuffix(".gz")
    for word in ("-idx3", ".idx3", "_idx3", "ubyte", "images", "image", "train", "imgs"):
        stem = stem.replace(word, "")
    return stem.strip("-_. ") or path.parent.name or "custom"
