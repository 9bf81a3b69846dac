"""What `mnist-jax predict` reads: picture files, folders of them, and arrays on stdin."""

import math
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from mnist_jax.cli import console
from mnist_jax.errors import ImageError

if TYPE_CHECKING:
    import numpy as np

LARGEST_STDIN = 2**30  # bytes; 1.3 million images
MANY = 50  # pictures, from which the count is shown, and processes are faster than threads
TOLD = 20  # times that the count is shown, about

File = Path | tuple[Path, ImageError]  # a picture, or a folder without any


def from_paths(files: list[File], prepare: Callable[[Any], Any], **flags: bool) -> Iterator[tuple[str, Any]]:
    """Returns each picture's name, and what `prepare` makes of it; also the rows of CSV files, as they are.

    Args:
        files: from `picture_files`.
        prepare: as for `from_files`.
        flags: `invert` and `resize`, as for `from_arrays`, for the rows of CSV files.
    """
    if not any(map(_is_table, files)):
        return from_files(files, prepare)
    return _mixed(files, prepare, **flags)


def _mixed(files: list[File], prepare: Callable[[Any], Any], **flags: bool) -> Iterator[tuple[str, Any]]:
    pictures = from_files([file for file in files if not _is_table(file)], prepare)
    with closing(pictures):
        for file in files:
            if _is_table(file):
                yield from _from_csv(file, **flags)
            else:
                yield next(pictures)
        yield from pictures  # none are left, but what follows the last one is done


def _is_table(file: File) -> TypeGuard[Path]:
    return isinstance(file, Path) and file.suffix.lower() in (".csv", ".tsv")


def _from_csv(path: Path, **flags: bool) -> Iterator[tuple[str, Any]]:
    from mnist_jax.data.custom.pixels import as_pixels
    from mnist_jax.data.formats import csv

    images = as_pixels(csv.read(path, console.print_status).images, str(path), **flags)
    return ((f"{path}[{index}]", image) for index, image in enumerate(images))


def from_files(files: Sequence[File], prepare: Callable[[Any], Any]) -> Generator[tuple[str, Any]]:
    """Yields each picture's name, and what `prepare` makes of it or the error that it caused.

    Args:
        files: from `picture_files`.
        prepare: of an opened picture; a function of a module, for it may run in another process.
    """
    workers = os.cpu_count() or 1
    many, step = len(files) > MANY, max(MANY, len(files) // TOLD // MANY * MANY)
    pool = _processes(workers) if many and workers > 1 else ThreadPoolExecutor(workers)
    with _ending_workers():
        try:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the workers inherit: it is for us
            results = pool.map(partial(_prepared, prepare), files, chunksize=4)
            signal.signal(signal.SIGINT, before)
            for count, result in enumerate(results, 1):
                yield result
                if many and (count % step == 0 or count == len(files)):
                    console.print_status(f"{count:,} of {len(files):,} pictures")
        except BrokenExecutor:
            raise ImageError(
                "pictures must be read to the end; a process ended, perhaps for memory"
            ) from None
        finally:  # after an error or a signal, what was not begun is left
            pool.shutdown(cancel_futures=True)


def _processes(workers: int) -> Executor:
    from concurrent.futures import ProcessPoolExecutor  # 8 ms that only folders need
    from multiprocessing import get_context

    return ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)


@contextmanager
def _ending_workers() -> Iterator[None]:
    """Lets SIGTERM end the program as an error does, so that no worker outlives it."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepared(prepare: Callable[[Any], Any], item: File) -> tuple[str, Any]:
    from mnist_jax.data.preprocess.reading import converted

    if isinstance(item, tuple):
        return str(item[0]), item[1]
    return converted(prepare, item)


def _start_worker() -> None:
    """Leaves the other cores to the other workers."""
    import cv2

    cv2.setNumThreads(1)


def picture_files(paths: list[Path], verbose: bool) -> Iterator[File]:
    """Yields the pictures among files and in folders, and says which of a folder's files are none.

    Args:
        paths: files and folders.
        verbose: whether to name hidden files.
    """
    from mnist_jax.data.preprocess import SUFFIXES

    for path in paths:
        if not path.is_dir():
            yield path
            continue
        files = [file for file in sorted(path.iterdir()) if not file.is_dir()]
        hidden = [file for file in files if file.name.startswith(".")]
        pictures = [file for file in files if file.suffix.lower() in SUFFIXES and file not in hidden]
        for file in hidden if verbose else ():
            console.print_status(f"{file} is hidden; left out")
        for file in files:
            if file not in pictures and file not in hidden:
                console.print_status(f"{file} is left out: {file.suffix or 'no suffix'} is not a picture's")
        if not pictures:
            yield path, ImageError(f"{path} must hold pictures ({', '.join(sorted(SUFFIXES))}); got none")
        yield from pictures


def from_stdin() -> Iterator[tuple[str, Any]]:
    """Yields 28x28 arrays from stdin, without preprocessing."""
    import numpy as np

    data = sys.stdin.buffer.read(LARGEST_STDIN + 1)
    if len(data) > LARGEST_STDIN:
        raise ImageError(f"stdin must hold at most {LARGEST_STDIN:,} bytes; got more; send fewer images")
    if data.startswith(b"\x93NUMPY"):
        array = _parse_npy(data)
    elif not data or len(data) % 784:
        raise ImageError(f"stdin must be a .npy file, or 784 bytes per image; got {len(data):,} bytes")
    else:
        array = np.frombuffer(data, np.uint8).reshape(-1, 28, 28)
    for index, picture in enumerate(array.reshape(-1, 28, 28)):
        yield f"stdin[{index}]", picture


def _parse_npy(data: bytes) -> "np.ndarray":
    """Returns the images of a .npy file, as a view, so that a forged header cannot exhaust the memory.

    Raises:
        ImageError: it is truncated, or holds other data.
    """
    import numpy as np

    from mnist_jax.data.formats import npy

    try:
        header = npy.read_header(data)
    except ValueError as error:
        raise ImageError(f"stdin must be a complete .npy file of numbers; {error}") from None
    shape = header.shape
    if header.dtype != np.uint8 or len(shape) not in (2, 3) or shape[-2:] != (28, 28):
        raise ImageError(f"stdin must hold uint8 [28, 28] or [n, 28, 28]; got {header.dtype} {list(shape)}")
    size, expected = len(data) - header.offset, math.prod(shape)
    if size != expected:
        raise ImageError(
            f"stdin must be a complete .npy file of numbers, {expected:,} bytes by its header; got {size:,}"
        )
    values = np.frombuffer(data, np.uint8, offset=header.offset)
    return values.reshape(shape, order="F" if header.by_columns else "C")
