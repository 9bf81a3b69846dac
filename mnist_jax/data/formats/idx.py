"""Reading and writing of IDX, the format of the MNIST files.

An IDX file of unsigned bytes consists of two zero bytes, the type code 8, the number of axes, the length of
each axis as a big-endian 32-bit integer, and the values (LeCun, Cortes, Burges: The MNIST database).
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnist_jax.errors import DatasetError


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
