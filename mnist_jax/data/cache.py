"""The four files of a data set: located, downloaded, verified, decompressed once, then memory-mapped.

A `.gz` file must have its pinned checksum. It is decompressed into the cache, next to a stamp file that ties
the decompressed file to that checksum. A file that does not match its stamp is decompressed again.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np

from mnist_jax._utils.atomic_io import read_bytes, write_atomic
from mnist_jax._utils.cache_dir import cache_dir
from mnist_jax.data import folders
from mnist_jax.data.download import fetch
from mnist_jax.data.formats import idx, npz
from mnist_jax.data.registry import SOURCES, File
from mnist_jax.errors import DatasetError, DatasetUnavailableError

MAX_FILE_SIZE = 2**30  # bytes


class Raw(NamedTuple):
    """The array in an IDX file.

    Attributes:
        array: uint8, often a memory map.
        sha256: checksum of the uncompressed IDX file.
    """

    array: np.ndarray
    sha256: str


def read(name: str, folder: Path | None) -> list[Raw]:
    """Read the four files of a data set from `folder`, the cache or the network.

    Args:
        name: a key of `SOURCES`.
        folder: the user's data folder, or None.

    Returns:
        Training images, training labels, test images and test labels.

    Raises:
        DatasetUnavailableError: if the files are not available; says what was tried and what to do.
        DatasetError: if a file is damaged or has the wrong content.
    """
    files, cache = SOURCES[name].files, cache_dir() / name
    if folder is not None and (paths := folders.find(name, folder)):
        if len(paths) == 1:
            return _read_npz(paths[0], files, cache)
        return [_read(path, file, cache) for path, file in zip(paths, files, strict=True)]
    cached = [_from_cache(file, cache) for file in files]
    if missing := [file for file, raw in zip(files, cached, strict=True) if raw is None]:
        _fetch(name, missing, folder, cache)
        cached = [_from_cache(file, cache) for file in files]
    raws = [raw for raw in cached if raw is not None]
    if len(raws) < len(files):
        raise DatasetError(f"{cache} changed while it was read; is another program deleting files there?")
    return raws


def _fetch(name: str, missing: list[File], folder: Path | None, cache: Path) -> None:
    where = f"{folder} nor in {cache}" if folder else str(cache)
    names = " ".join(f"{file.name}.gz" for file in missing)
    advice = f"put {names} into a folder and pass it as --data-dir (data_dir=) or MNIST_JAX_DATA_DIR"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache):  # the first of several processes fetches for all
            if missing := [file for file in missing if _from_cache(file, cache) is None]:
                fetch(SOURCES[name], missing, cache)
    except DatasetUnavailableError as error:
        raise DatasetUnavailableError(f"{name} is not in {where}, and {error}; {advice}") from None
    except OSError as error:
        raise DatasetUnavailableError(
            f"{name} cannot be downloaded into {cache}: {error.strerror}; {advice}"
        ) from None


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Waits for other processes that fetch into a folder; leaves no file."""
    lock = cache / ".lock"
    with filelock.FileLock(lock):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows cannot remove an open file
                lock.unlink()


def _from_cache(file: File, cache: Path) -> Raw | None:
    path = cache / f"{file.name}.gz"
    if (raw := _unzipped(file, cache)) is not None:
        return raw
    try:
        return _unzip(path, file, cache)
    except (OSError, DatasetError):  # missing or damaged: download it again
        return None


def _read(path: Path, file: File, cache: Path) -> Raw:
    """Read one file from the user's folder, compressed or not."""
    try:
        return _unzip(path, file, cache) if path.suffix == ".gz" else _verify_raw(path, file)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None


def _verify_raw(path: Path, file: File) -> Raw:
    array = idx.memory_map(path, file.axes)
    sha256 = _sha256(read_bytes(path, MAX_FILE_SIZE))
    if file.raw_sha256 not in (None, sha256) or (file.raw_sha256 is None and _identify(sha256)):
        expected = f"sha256 {file.raw_sha256}" if file.raw_sha256 else "another file"
        raise DatasetError(f"{path} must be {expected}; got sha256 {sha256}{_identify(sha256)}")
    return Raw(array, sha256)


def _unzip(path: Path, file: File, cache: Path) -> Raw:
    """Read a `.gz` file; from the cache if it was decompressed before."""
    zipped = read_bytes(path, MAX_FILE_SIZE)
    if (sha256 := _sha256(zipped)) != file.sha256:
        raise DatasetError(
            f"{path} must be {file.size:,} bytes with sha256 {file.sha256}; "
            f"got {len(zipped):,} bytes with sha256 {sha256}{_identify(sha256)}"
        )
    if (raw := _unzipped(file, cache)) is not None:
        return raw
    return _store(gzip.decompress(zipped), file, cache, path)


def _store(content: bytes, file: File, cache: Path, path: Path) -> Raw:
    """Write the uncompressed content of `path` to the cache and return it."""
    sha256 = _sha256(content)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(cache / file.name, content)
        write_atomic(_stamp(file, cache), json.dumps([file.sha256, *_mark(file, cache), sha256]).encode())
    except OSError:  # without a writable cache, reading only takes more time and memory
        return Raw(idx.decode(content, file.axes, path), sha256)
    return Raw(idx.memory_map(cache / file.name, file.axes), sha256)


def _read_npz(path: Path, files: Sequence[File], cache: Path) -> list[Raw]:
    """Read the four arrays of Keras's `mnist.npz`; from the cache if this file was unpacked before.

    Encoded as IDX, they must have the pinned checksums.
    """
    try:
        data = npz.read_bytes(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None
    stamp, sha256 = cache / f"{path.name}.stamp", _sha256(data)
    try:
        unpacked = stamp.read_text() == sha256
    except (OSError, ValueError):  # never unpacked, or a damaged stamp
        unpacked = False
    cached = [_unzipped(file, cache) for file in files] if unpacked else []
    if cached and all(cached):
        return [raw for raw in cached if raw is not None]
    contents = [idx.encode(array) for array in npz.decode(data, [file.axes for file in files], path)]
    for file, key, content in zip(files, npz.KEYS, contents, strict=True):
        if (got := _sha256(content)) != file.raw_sha256:
            raise DatasetError(
                f"{key} in {path} must be {file.name}, as IDX of sha256 {file.raw_sha256}; "
                f"got sha256 {got}{_identify(got)}"
            )
    raws = [_store(content, file, cache, path) for file, content in zip(files, contents, strict=True)]
    with suppress(OSError):
        write_atomic(stamp, sha256.encode())
    return raws


def _unzipped(file: File, cache: Path) -> Raw | None:
    """The decompressed file in the cache, if it is unchanged since it was decompressed.

    Size and modification time stand in for the checksum: hashing 55 MB takes longer than everything else.
    """
    try:
        *mark, sha256 = json.loads(_stamp(file, cache).read_bytes())
        if mark == [file.sha256, *_mark(file, cache)]:
            return Raw(idx.memory_map(cache / file.name, file.axes), sha256)
    except (OSError, ValueError, TypeError):
        pass
    return None


def _stamp(file: File, cache: Path) -> Path:
    return cache / f"{file.name}.stamp"


def _mark(file: File, cache: Path) -> tuple[int, int]:
    status = (cache / file.name).stat()
    return status.st_size, status.st_mtime_ns


def _identify(sha256: str) -> str:
    """The end of an error message that says which known file has this checksum; empty if none has."""
    for name, source in SOURCES.items():
        for file in source.files:
            if sha256 in (file.sha256, file.raw_sha256):
                return f", which is {file.name} of {name}"
    return ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
