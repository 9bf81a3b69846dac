"""Reading of CSV files with one image per row: its pixels, and perhaps its label."""

import csv
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from mnist_jax._utils.atomic_io import check_ordinary
from mnist_jax.config.validation import shorten
from mnist_jax.errors import DatasetError

CHUNK = 5000  # rows
LARGEST = 2**34  # bytes
LONGEST_LINE = 2**20  # characters; MNIST's have 3,000
QUIET_S = 2.0  # seconds without a message
LABEL_NAMES = ("label", "labels", "class", "target", "y")
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE)


class Table(NamedTuple):
    """The rows of a CSV file.

    Attributes:
        images: the pixels, `[n, side, side]`: uint8 where they are whole numbers in 0..255, else float64.
        labels: the labels as they are written, `[n]`; None without a label column.
        guessed: which column was taken for the labels, `first` or `last`, where none is named so.
    """

    images: np.ndarray
    labels: np.ndarray | None
    guessed: str | None = None


class _Layout(NamedTuple):
    delimiter: str
    width: int  # columns
    label: int | None  # the column of the label: 0, the last one, or None
    has_header: bool
    is_named: bool  # whether the header names the label


def read(path: Path, say: Callable[[str], None] | None = None) -> Table:
    """Read a CSV file, comma-, semicolon- or tab-separated, with or without a header.

    The label is the column named `label`, `class`, `target` or `y`, first or last. Without such a name, rows
    whose other columns make a square, as 785 do, have it first; or last where the other names are alike.

    Args:
        path: the file.
        say: called with messages about the progress of long reads.

    Raises:
        DatasetError: if it cannot be read, has another form, or a row is ragged or holds something else than
            numbers; says which line.
    """
    with _opened(path) as file:
        layout = _layout(file, path)
        file.seek(0)
        lines = _lines(file, path)
        if layout.has_header:
            next(lines)
        return _read(lines, layout, path, say or (lambda _: None))


def has_labels(path: Path) -> bool:
    """Whether a CSV file has a column for the label.

    Raises:
        DatasetError: as `read`.
    """
    with _opened(path) as file:
        return _layout(file, path).label is not None


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        check_ordinary(path, LARGEST)
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} must be UTF-8 text; {error.reason} at byte {error.start:,}") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None


def _lines(file: IO[str], path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not empty, with their numbers."""
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), 1):
        if len(line) >= LONGEST_LINE:
            raise DatasetError(
                f"{path}, line {number:,} must have at most {LONGEST_LINE:,} characters; got more"
            )
        if line.strip():
            yield number, line.rstrip("\r\n")


def _layout(file: IO[str], path: Path) -> _Layout:
    """Judges by the first line where the label is."""
    first = next(_lines(file, path), None)
    if first is None:
        raise DatasetError(f"{path} must have a row for each image; it is empty")
    delimiter = max(",;\t", key=first[1].count)
    fields = next(csv.reader([first[1]], delimiter=delimiter))
    has_header = _is_header(fields)
    named = [i for i, name in enumerate(fields) if has_header and name.strip().lower() in LABEL_NAMES]
    width, label = len(fields), named[0] if named else None
    if label is None and not _is_square(width) and _is_square(width - 1):
        label = width - 1 if has_header and _is_odd_one_last(fields) else 0
    if len(named) > 1 or label not in (None, 0, width - 1) or not _is_square(width - (label is not None)):
        raise DatasetError(
            f"{path} must have 784 columns of pixels, 28x28, and one for the label, first or last; got "
            f"{width:,} columns: {', '.join(shorten(name, 20) for name in fields[:3])}, ..., "
            f"{shorten(fields[-1], 20)}{_index_hint(fields)}"
        )
    return _Layout(delimiter, width, label, has_header, bool(named))


def _is_odd_one_last(fields: list[str]) -> bool:
    """Whether the first two names begin alike and the last does not, as in `pixel0, pixel1, ..., digit`."""
    stem = re.sub(r"[\dx_]+$", "", fields[1])
    return bool(stem) and fields[0].startswith(stem) and not fields[-1].startswith(stem)


def _index_hint(fields: list[str]) -> str:
    if fields[0].strip().lower() not in ("", "index", "id", "unnamed: 0"):
        return ""
    return "; the first numbers the rows: write the file without it; in pandas, index=False"


def _is_header(fields: list[str]) -> bool:
    """Whether a row names the columns: a word for each, or numbers that count up, as pandas writes them."""
    numbers = [field.strip() for field in fields if NUMBER.fullmatch(field)]
    if len(fields) - len(numbers) > 1:
        return True
    first = int(numbers[0]) if numbers and numbers[0].isdecimal() else 0
    return len(numbers) > 2 and numbers == [str(first + i) for i in range(len(numbers))]


def _is_square(count: int) -> bool:
    return count > 1 and math.isqrt(count) ** 2 == count


def _read(lines: Iterator[tuple[int, str]], layout: _Layout, path: Path, say: Callable[[str], None]) -> Table:
    chunks, labels, count, spoken = [], [], 0, time.monotonic()
    while chunk := list(islice(lines, CHUNK)):
        texts, of_chunk = _split(chunk, layout)
        if "" in of_chunk:
            raise DatasetError(
                f"{path}, line {chunk[of_chunk.index('')][0]:,} must have a label; it is empty"
            )
        chunks.append(_numbers(texts, chunk, layout, path))
        labels += of_chunk
        count += len(chunk)
        if time.monotonic() > spoken + QUIET_S:
            spoken = time.monotonic()
            say(f"{path}: {count:,} rows read")
    if not chunks:
        raise DatasetError(f"{path} must have a row for each image; it has a header alone")
    pixels = np.concatenate(chunks)
    side = math.isqrt(pixels.shape[1])
    images = pixels.reshape(-1, side, side)
    if layout.label is None:
        return Table(images, None)
    guessed = None if layout.is_named else "last" if layout.label else "first"
    return Table(images, _labels(labels), guessed)


def _split(chunk: list[tuple[int, str]], layout: _Layout) -> tuple[list[str], list[str]]:
    """Separates the label from the pixels of each line."""
    if layout.label is None:
        return [line for _, line in chunk], []
    if any('"' in _label_of(line, layout) for _, line in chunk):  # quoted, perhaps with a delimiter inside
        rows = list(csv.reader([line for _, line in chunk], delimiter=layout.delimiter))
        pixels = [row[1:] if layout.label == 0 else row[:-1] for row in rows]
        labels = [(row[0] if layout.label == 0 else row[-1]).strip() for row in rows]
        return [layout.delimiter.join(row) for row in pixels], labels
    if layout.label == 0:
        parts = [line.partition(layout.delimiter) for _, line in chunk]
        return [rest for _, _, rest in parts], [label.strip() for label, _, _ in parts]
    parts = [line.rpartition(layout.delimiter) for _, line in chunk]
    return [rest for rest, _, _ in parts], [label.strip() for _, _, label in parts]


def _label_of(line: str, layout: _Layout) -> str:
    """What is between the label's end of a line and the first delimiter."""
    first, _, rest = line.partition(layout.delimiter)
    return first if layout.label == 0 else rest.rpartition(layout.delimiter)[2]


def _numbers(texts: list[str], chunk: list[tuple[int, str]], layout: _Layout, path: Path) -> np.ndarray:
    """The pixels of some rows, `[rows, pixels]`."""
    pixels = layout.width - (layout.label is not None)
    for dtype in (np.uint8, np.float64):
        try:
            values = np.loadtxt(
                texts, dtype, delimiter=layout.delimiter, comments=None, quotechar='"', ndmin=2
            )
        except (ValueError, OverflowError):
            continue
        if values.shape == (len(texts), pixels) and np.isfinite(values).all():
            return values
    for (number, _), text in zip(chunk, texts, strict=True):  # which one is it?
        fields = next(csv.reader([text], delimiter=layout.delimiter))
        if len(fields) != pixels:
            raise DatasetError(
                f"{path}, line {number:,} must have {layout.width:,} columns as the first; "
                f"got {len(fields) + layout.width - pixels:,}"
            )
        for field in fields:
            if not NUMBER.fullmatch(field) or math.isinf(float(field)):
                raise DatasetError(
                    f"{path}, line {number:,} must have numbers for pixels; got {shorten(field, 40)}"
                )
    raise DatasetError(
        f"{path} must have a number for each pixel; lines {chunk[0][0]:,} and after cannot be read"
    )


def _labels(texts: list[str]) -> np.ndarray:
    """Labels as whole numbers where all are, else as strings."""
    try:
        return np.array([int(text) for text in texts])
    except (ValueError, OverflowError):
        pass
    try:
        numbers = [float(text) for text in texts]
        if all(number.is_integer() for number in numbers):
            return np.array([int(number) for number in numbers])
    except (ValueError, OverflowError):
        pass
    return np.array(texts)
