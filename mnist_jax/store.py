"""The four files of a data set: found, fetched, verified, unzipped once, memory-mapped ever after.

A `.gz` file counts only with its pinned sum. It is unzipped into the cache, where a stamp ties the
unzipped file to that sum; a file that no longer fits its stamp is unzipped again.
"""

import gzip
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from mnist_jax import folders, idx, npz
from mnist_jax.errors import DatasetError, DatasetUnavailableError
from mnist_jax.fetch import fetch
from mnist_jax.files import read_bytes, write_atomic
from mnist_jax.sources import SOURCES, File

LARGEST_FILE = 2**30  # bytes


class Raw(NamedTuple):
    """The content of one IDX file, and its sum."""

    array: np.ndarray
    sha256: str


def cache_folder() -> Path:
    """Where downloads and unzipped files are kept: the user's cache folder, `XDG_CACHE_HOME` on Linux."""
    return Path(platformdirs.user_cache_dir("mnist-jax", appauthor=False))


def read(name: str, folder: Path | None) -> list[Raw]:
    """Training images, training labels, test images, test labels: from `folder`, the cache or the network.

    Raises:
        DatasetUnavailableError: nowhere to be found; says what was tried and what to do.
        DatasetError: a file is damaged, or is not what it should be.
    """
    files, cache = SOURCES[name].files, cache_folder() / name
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
        raise DatasetError(f"{cache} changed while it was read; is another program cleaning it up?")
    return raws


def _fetch(name: str, missing: list[File], folder: Path | None, cache: Path) -> None:
    where = f"{folder} nor in {cache}" if folder else str(cache)
    names = " ".join(f"{file.name}.gz" for file in missing)
    advice = f"put {names} into a folder and name it with --data-dir (data_dir=) or MNIST_JAX_DATA_DIR"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fetch(SOURCES[name], missing, cache)
    except DatasetUnavailableError as error:
        raise DatasetUnavailableError(f"{name} is not in {where}, and {error}; {advice}") from None
    except OSError as error:
        raise DatasetUnavailableError(
            f"{name} cannot be downloaded into {cache}: {error.strerror}; {advice}"
        ) from None


def _from_cache(file: File, cache: Path) -> Raw | None:
    path = cache / f"{file.name}.gz"
    if (raw := _unzipped(file, cache)) is not None:
        return raw
    try:
        return _unzip(path, file, cache)
    except (OSError, DatasetError):  # not there, or damaged: to be fetched again
        return None


def _read(path: Path, file: File, cache: Path) -> Raw:
    """One file from the user's folder, gzipped or not."""
    try:
        return _unzip(path, file, cache) if path.suffix == ".gz" else _verify_raw(path, file)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None


def _verify_raw(path: Path, file: File) -> Raw:
    array = idx.memory_map(path, file.axes)
    sha256 = _sha256(read_bytes(path, LARGEST_FILE))
    if file.raw_sha256 not in (None, sha256) or (file.raw_sha256 is None and _owner(sha256)):
        expected = f"sha256 {file.raw_sha256}" if file.raw_sha256 else "another file"
        raise DatasetError(f"{path} must be {expected}; got sha256 {sha256}{_owner(sha256)}")
    return Raw(array, sha256)


def _unzip(path: Path, file: File, cache: Path) -> Raw:
    """The content of a `.gz` file: from the cache if it was unzipped before."""
    zipped = read_bytes(path, LARGEST_FILE)
    if (sha256 := _sha256(zipped)) != file.sha256:
        raise DatasetError(
            f"{path} must be {file.size:,} bytes with sha256 {file.sha256}; "
            f"got {len(zipped):,} bytes with sha256 {sha256}{_owner(sha256)}"
        )
    if (raw := _unzipped(file, cache)) is not None:
        return raw
    return _keep(gzip.decompress(zipped), file, cache, path)


def _keep(content: bytes, file: File, cache: Path, path: Path) -> Raw:
    """The content of a file, unzipped, which goes into the cache; `path` is where it comes from."""
    sha256 = _sha256(content)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(cache / file.name, content)
        write_atomic(_stamp(file, cache), json.dumps([file.sha256, *_mark(file, cache), sha256]).encode())
    except OSError:  # a cache that cannot be written costs time and memory, nothing else
        return Raw(idx.decode(content, file.axes, path), sha256)
    return Raw(idx.memory_map(cache / file.name, file.axes), sha256)


def _read_npz(path: Path, files: Sequence[File], cache: Path) -> list[Raw]:
    """The four arrays of Keras's file: from the cache if this file was unpacked before.

    As IDX they have the pinned sums, or are not the data set.
    """
    try:
        data = npz.read_bytes(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None
    seen, sha256 = cache / f"{path.name}.stamp", _sha256(data)
    try:
        known = seen.read_text() == sha256
    except (OSError, ValueError):  # never unpacked, or damaged
        known = False
    cached = [_unzipped(file, cache) for file in files] if known else []
    if cached and all(cached):
        return [raw for raw in cached if raw is not None]
    contents = [idx.encode(array) for array in npz.decode(data, [file.axes for file in files], path)]
    for file, key, content in zip(files, npz.KEYS, contents, strict=True):
        if (found := _sha256(content)) != file.raw_sha256:
            raise DatasetError(
                f"{key} in {path} must be {file.name}, as IDX of sha256 {file.raw_sha256}; "
                f"got sha256 {found}{_owner(found)}"
            )
    raws = [_keep(content, file, cache, path) for file, content in zip(files, contents, strict=True)]
    with suppress(OSError):
        write_atomic(seen, sha256.encode())
    return raws


def _unzipped(file: File, cache: Path) -> Raw | None:
    """The unzipped file in the cache, if it is just as it was when it came out of that `.gz` file.

    Hashing 55 MB would take longer than all the rest, so size and time of change stand in for the sum.
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


def _owner(sha256: str) -> str:
    """What a file with a wrong sum really is, where that is known."""
    for name, source in SOURCES.items():
        for file in source.files:
            if sha256 in (file.sha256, file.raw_sha256):
                return f", which is {file.name} of {name}"
    return ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
