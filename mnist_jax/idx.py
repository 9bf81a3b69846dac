"""The IDX format of the MNIST files, to and from NumPy.

An IDX file of bytes is: two zero bytes, 8 for unsigned bytes, the number of axes, each axis's length
as a big-endian 32-bit integer, then the values. (LeCun, Cortes, Burges: The MNIST database.)
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnist_jax.errors import DatasetError


def header(shape: Sequence[int]) -> bytes:
    """The bytes that come before the values of a uint8 array of that shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


def encode(array: np.ndarray) -> bytes:
    """A uint8 array as the bytes of an IDX file."""
    return header(array.shape) + np.ascontiguousarray(array, np.uint8).tobytes()


def decode(data: bytes | memoryview, axes: int, name: object = "IDX data") -> np.ndarray:
    """The uint8 array in an IDX file's bytes: a read-only view, not a copy.

    Args:
        data: the whole file.
        axes: how many axes the array must have: 3 for images, 1 for labels.
        name: what to call the file in an error.

    Raises:
        DatasetError: another magic number, or more or fewer bytes than the header announces.
    """
    shape = read_shape(bytes(data[: 4 + 4 * axes]), len(data), axes, name)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def memory_map(path: Path, axes: int) -> np.ndarray:
    """The array in an IDX file, read from disk only where it is touched.

    Raises:
        DatasetError: as `decode`.
    """
    with path.open("rb") as file:
        shape = read_shape(file.read(4 + 4 * axes), path.stat().st_size, axes, path)
    return np.memmap(path, np.uint8, "r", offset=4 + 4 * axes, shape=shape)


def read_shape(start: bytes, size: int, axes: int, name: object) -> tuple[int, ...]:
    """The shape in a header, checked against the `size` in bytes of the whole file before memory is taken."""
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
