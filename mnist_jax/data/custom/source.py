"""Where a data set of one's own is, and how it is read: kept with a run, so that commands find it again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax._utils.frozen import set_fields
from mnist_jax.config.networks import LABELS, MAX_CLASSES, are_labels
from mnist_jax.config.validation import check_float, shorten
from mnist_jax.errors import DatasetError, SpecError

if TYPE_CHECKING:
    from mnist_jax.data.custom.pictures import Reader
    from mnist_jax.data.datasets import Dataset

LONGEST_PATH = 4096


@dataclass(frozen=True)
class DataSource:
    """A file or folder with a data set, and the options to read it with.

    Attributes:
        path: a CSV, `.npz` or IDX file, or a folder of IDX files or of a folder of pictures for each class.
        test_path: the test set, in the same form; None for one beside the path, or for a share held out.
        test_fraction: share of each class held out for the test set where there is none.
        seed: seed of that choice and of the validation set.
        classes: names of the classes; None for the labels.
        invert: whether the images are black on white.
        resize: whether to scale images of other sizes to 28x28.
        transposed: whether rows and columns of IDX files are exchanged, as in EMNIST.

    Raises:
        SpecError: if a value is out of range or has the wrong type.
    """

    path: str
    test_path: str | None = None
    test_fraction: float = 0.2
    seed: int = 0
    classes: tuple[str, ...] | None = None
    invert: bool = False
    resize: bool = False
    transposed: bool = False

    def __post_init__(self) -> None:
        for name in ("path", "test_path"):
            value = getattr(self, name)
            text = isinstance(value, str) and 0 < len(value) <= LONGEST_PATH and "\0" not in value
            if not text and (name == "path" or value is not None):
                raise SpecError(f"{name} must be a path; got {shorten(value)}")
        set_fields(self, test_fraction=check_float("test fraction", self.test_fraction, 0, 1, open_low=True))
        if self.test_path is not None and self.test_fraction != DataSource.test_fraction:
            raise SpecError(f"test fraction is for data without a test set; got {self.test_path} beside it")
        if not (type(self.seed) is int and 0 <= self.seed < 2**32):
            raise SpecError(f"seed must be a whole number from 0 to {2**32 - 1}; got {self.seed!r}")
        if self.classes is not None:
            set_fields(self, classes=tuple(self.classes) if isinstance(self.classes, list) else self.classes)
            if not are_labels(self.classes):
                got = shorten(self.classes)
                raise SpecError(f"classes must be 2 to {MAX_CLASSES:,} {LABELS}; got {got}")
        for name in ("invert", "resize", "transposed"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(f"{name} must be true or false; got {getattr(self, name)!r}")


def source_from_json(values: Any) -> DataSource:
    """The inverse of `dataclasses.asdict`.

    Raises:
        SpecError: if a field is missing, unknown or invalid.
    """
    expected = set(DataSource.__annotations__)
    if not isinstance(values, Mapping) or set(values) != expected:
        raise SpecError(f"data must have the fields {', '.join(sorted(expected))}; got {shorten(values)}")
    return DataSource(**values)


def load_source(
    source: DataSource,
    *,
    validation_fraction: float = 0.1,
    name: str | None = None,
    say: Callable[[str], None] | None = None,
    reader: "Reader | None" = None,
) -> "Dataset":
    """Load a data set of one's own; sees what kind of file or folder it is.

    Args:
        source: where it is, and how to read it.
        validation_fraction: share of each class of the training set for validation.
        name: name of the data set; None for that of the file.
        say: called with messages about the progress of long reads.
        reader: as for `from_folder`.

    Raises:
        DatasetError: if there is no such file, or it holds no data set.
        InputError, SpecError: as `from_arrays`.
    """
    path, test_path = Path(source.path), source.test_path and Path(source.test_path)
    options: Any = {
        "test_fraction": source.test_fraction,
        "validation_fraction": validation_fraction,
        "seed": source.seed,
        "classes": source.classes,
        "invert": source.invert,
        "resize": source.resize,
        "name": name,
    }
    check_exists(path)
    if test_path:
        check_exists(test_path)
    try:
        kind = kind_of(path)
        test_kind = kind_of(test_path) if test_path else kind
    except OSError as error:
        raise DatasetError(f"{error.filename or path} cannot be read: {error.strerror or error}") from None
    if test_path and kind == "npz":
        raise SpecError(f"{path} must hold its test set, as test_images and test_labels; got {test_path}")
    if test_kind != kind:
        raise DatasetError(f"{test_path} must be {kind}, as {path} is; it is {test_kind}")
    if source.transposed and kind != "idx":
        raise SpecError(f"--transposed is for IDX files; {path} is {kind}")
    if kind == "csv":
        from mnist_jax.data.custom.tables import from_csv

        if path.is_dir():
            path, test_path = path / "train.csv", test_path or _labeled_test(path / "test.csv")
        return from_csv(path, test_path, say=say, **options)
    if kind == "npz":
        from mnist_jax.data.custom.archives import from_npz

        return from_npz(next(iter(path.glob("*.npz"))) if path.is_dir() else path, **options)
    if kind == "idx":
        from mnist_jax.data.custom.idx_files import from_idx

        return from_idx(path, None, test_path, transposed=source.transposed, **options)
    from mnist_jax.data.custom.pictures import from_folder

    return from_folder(path, test_path, reader=reader, **options)


def check_exists(path: Path, hint: str = "") -> None:
    """Check that there is a file or folder.

    Raises:
        DatasetError: if there is none; ends with the hint.
    """
    if not path.exists():
        raise DatasetError(f"{path} must be a file or folder with a data set; it does not exist{hint}")


def kind_of(path: Path) -> str:
    """What a file or folder with a data set is: `csv`, `npz`, `idx` or `pictures`.

    Raises:
        DatasetError: if it is none of them.
        OSError: if it cannot be read.
    """
    from mnist_jax.data.custom.idx_files import image_files
    from mnist_jax.data.formats import idx

    if path.is_dir():
        if (path / "train.csv").is_file():
            return "csv"
        if image_files(path):
            return "idx"
        return "npz" if len(list(path.glob("*.npz"))) == 1 else "pictures"
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return "csv"
    if path.suffix.lower() == ".npz":
        return "npz"
    if idx.is_idx(path):
        return "idx"
    raise DatasetError(
        f"{path} must be a CSV, .npz or IDX file, or a folder of pictures for each class; it is none of them"
    )


def _labeled_test(path: Path) -> Path | None:
    """A CSV file beside the training set, if it has labels; Kaggle's has none."""
    from mnist_jax.data.formats import csv

    return path if path.is_file() and csv.has_labels(path) else None


def moved(source: DataSource, path: Path | None) -> DataSource:
    """A source at another place; the same for None."""
    return source if path is None else replace(source, path=str(path.absolute()))
