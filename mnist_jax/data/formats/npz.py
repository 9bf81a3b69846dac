"""Safe reading of untrusted `.npz` files: zip archives of .npy files, such as Keras's `mnist.npz`."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np

from mnist_jax._utils.atomic_io import check_ordinary
from mnist_jax.data.formats import npy
from mnist_jax.errors import DatasetError

KEYS = "x_train", "y_train", "x_test", "y_test"  # in the order of the four IDX files
LIMIT = 2**26  # bytes, for the archive and for each array; MNIST's largest array has 47 million
LARGEST = 2**33  # bytes, of all arrays of any other archive
MOST = 100  # arrays
LONGEST_HEADER = 2**16  # bytes


def read_bytes(path: Path) -> bytes:
    """Read an archive.

    Raises:
        DatasetError: if it is too large to be MNIST.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise DatasetError(f"{path} must have at most {LIMIT:,} bytes; got more")
    return data


def decode(data: bytes, axes: Sequence[int], name: object) -> Iterator[np.ndarray]:
    """Decode the four arrays of an archive.

    Args:
        data: the archive.
        axes: required number of axes of each array.
        name: name of the file in error messages.

    Yields:
        The uint8 arrays, in the order of `KEYS`.

    Raises:
        DatasetError: if the archive is damaged or holds anything else.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = sorted(member.filename for member in archive.infolist())
            if members != sorted(f"{key}.npy" for key in KEYS):
                got = ", ".join(members[:8])
                raise DatasetError(f"{name} must hold the arrays {', '.join(KEYS)}, as Keras's; got {got!a}")
            for key, count in zip(KEYS, axes, strict=True):
                with archive.open(f"{key}.npy") as file:
                    content = file.read(LIMIT + 1)
                yield _array(content, count, f"{key} in {name}")
    except DatasetError:
        raise
    except Exception as error:  # zipfile and zlib may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"{name} must be a whole .npz file; it cannot be read: {reason}") from None


def _array(content: bytes, axes: int, name: str) -> np.ndarray:
    if len(content) > LIMIT:
        raise DatasetError(f"{name} must have at most {LIMIT:,} bytes; got more")
    try:
        header = npy.read_header(content)
    except ValueError as error:
        raise DatasetError(f"{name} must be a .npy file; {error}") from None
    values, fits = content[header.offset :], len(header.shape) == axes and not header.by_columns
    if header.dtype != np.uint8 or not fits or math.prod(header.shape) != len(values):
        raise DatasetError(
            f"{name} must be uint8 with {axes} axes, in C order, without further bytes; "
            f"got {header.dtype} {str(header.shape)[:100]} and {len(values):,} bytes"
        )
    return np.frombuffer(values, np.uint8).reshape(header.shape)


def read(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of numbers or strings of any `.npz` file, without pickles.

    Returns:
        The arrays by name, in native byte order.

    Raises:
        DatasetError: if the file is damaged, or an array holds objects or more than its header says.
        OSError: if it cannot be read.
    """
    check_ordinary(path, LARGEST)
    arrays, left = {}, LARGEST
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST:
                raise DatasetError(f"{path} must have at most {MOST} arrays; got {len(members):,}")
            for member in members:
                left -= member.file_size
                if left < 0:
                    raise DatasetError(f"{path} must have arrays of at most {LARGEST:,} bytes; got more")
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = _any_array(file, member, path)
    except (DatasetError, OSError):
        raise
    except Exception as error:  # zipfile and zlib may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"{path} must be a whole .npz file; it cannot be read: {reason}") from None
    return arrays


def _any_array(file: IO[bytes], member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    name = f"{member.filename!a} in {path}"
    start = file.read(LONGEST_HEADER)
    try:
        header = npy.read_header(start)
    except ValueError as error:
        raise DatasetError(f"{name} must be a .npy file; {error}") from None
    if header.dtype.kind not in "buifUS":
        hint = "; convert it before saving: numpy.array([*values])" if header.dtype.kind == "O" else ""
        raise DatasetError(f"{name} must hold numbers or strings; got dtype {header.dtype}{hint}")
    size = math.prod(header.shape) * header.dtype.itemsize
    if header.offset + size != member.file_size:
        raise DatasetError(
            f"{name} must hold {size:,} bytes by its header; got {member.file_size - header.offset:,}"
        )
    values = np.frombuffer(start[header.offset :] + file.read(), header.dtype)
    array = values.reshape(header.shape, order="F" if header.by_columns else "C")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
