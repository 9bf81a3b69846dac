"""Reading and writing of IDX, the format of the MNIST files.

An IDX file of unsigned bytes consists of two zero bytes, the type code 8, the number of axes, the length of
each axis as a big-endian 32-bit integer, and the values (LeCun, Cortes, Burges: The MNIST database).
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from mnist_jax._utils.atomic_io import check_ordinary
from mnist_jax.errors import DatasetError

# The type codes of the format, and their dtypes in the file.
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
LARGEST = 2**33  # bytes


def header(shape: Sequence[int]) -> bytes:
    """The header of an IDX file for a uint8 array of the given shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


def encode(array: np.ndarray) -> bytes:
    """Encode a uint8 array as an IDX file."""
    return header(array.shape) + np.ascontiguousarray(array, np.uint8).tobytes()


def decode(data: bytes | memoryview, axes: int, name: object = "IDX data") -> np.ndarray:
    """Decode an IDX file.

    Args:
        data: the whole file.
        axes: required number of axes: 3 for images, 1 for labels.
        name: name of the file in error messages.

    Returns:
        The uint8 array, a read-only view of `data`.

    Raises:
        DatasetError: if the magic number or the length of the file is wrong.
    """
    shape = read_shape(bytes(data[: 4 + 4 * axes]), len(data), axes, name)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def memory_map(path: Path, axes: int) -> np.ndarray:
    """Memory-map the uint8 array in an IDX file.

    Raises:
        DatasetError: as `decode`.
    """
    with path.open("rb") as file:
        shape = read_shape(file.read(4 + 4 * axes), path.stat().st_size, axes, path)
    return np.memmap(path, np.uint8, "r", offset=4 + 4 * axes, shape=shape)


def read_shape(start: bytes, size: int, axes: int, name: object) -> tuple[int, ...]:
    """Read the shape from a header and check it against the file's `size` in bytes, before any allocation.

    Raises:
        DatasetError: as `decode`.
    """
    expected = header((0,) * axes)
    if start[:4] != expected[:4] or len(start) < len(expected):
        raise DatasetError(
            f"{name} must begin with the IDX magic number {expected[:4].hex()} "
            f"(unsigned bytes, {axes} axes); got {start[:4].hex() or 'an empty file'}"
        )
    shape = struct.unpack(f">{axes}I", start[4:])
    announced = len(expected) + math.prod(shape)
    if size != announced:
        raise DatasetError(
            f"{name} must be {announced:,} bytes long by its header {list(shape)}; got {size:,} bytes"
        )
    return shape


def is_idx(path: Path) -> bool:
    """Whether a file begins as an IDX file, gzipped or not."""
    try:
        with _opened(path) as file:
            start = file.read(4)
    except (OSError, DatasetError):
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES and 1 <= start[3] <= 4


def axes_of(path: Path) -> tuple[int, ...]:
    """Read the shape that the header of an IDX file states.

    Raises:
        DatasetError, OSError: as `read`.
    """
    with _opened(path) as file:
        return _any_header(file, path)[1]


def read(path: Path) -> np.ndarray:
    """Read an IDX file of any type and number of axes, gzipped or not; bytes are memory-mapped.

    Raises:
        DatasetError: if it is none, damaged or shorter or longer than its header says.
        OSError: if it cannot be read.
    """
    check_ordinary(path, LARGEST)
    with _opened(path) as file:
        dtype, shape = _any_header(file, path)
        expected = math.prod(shape) * np.dtype(dtype).itemsize
        zipped = isinstance(file, gzip.GzipFile)
        size = path.stat().st_size - 4 - 4 * len(shape)
        if zipped:
            data = file.read(min(expected, LARGEST) + 1)
            size = len(data)
        if size != expected:
            got = f"more than {expected:,}" if zipped and size > expected else f"{size:,}"
            raise DatasetError(
                f"{path} must hold {expected:,} bytes by its header {list(shape)}; got {got} bytes"
            )
        if not zipped and dtype == "u1" and expected:
            return np.memmap(path, np.uint8, "r", offset=4 + 4 * len(shape), shape=shape)
        values = np.frombuffer(data if zipped else file.read(), dtype).reshape(shape)
    return values.astype(values.dtype.newbyteorder("="))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} must be a whole gzip file; {error}") from None


def _any_header(file: IO[bytes], path: Path) -> tuple[str, tuple[int, ...]]:
    """Reads the dtype and the shape."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES or not 1 <= start[3] <= 4:
        raise DatasetError(
            f"{path} must begin as an IDX file, with two zeros, a type and 1 to 4 axes; "
            f"got {start.hex() or 'an empty file'}"
        )
    lengths = file.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise DatasetError(f"{path} must have a whole IDX header; it ends within it")
    return TYPES[start[2]], struct.unpack(f">{start[3]}I", lengths)
