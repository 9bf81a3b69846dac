"""Keras's `mnist.npz`, a zip archive of four .npy files, of which nothing is run or taken on trust."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from mnist_jax import npy
from mnist_jax.errors import DatasetError

KEYS = "x_train", "y_train", "x_test", "y_test"  # in the order of the four IDX files
LIMIT = 2**26  # bytes of the archive, and of each array; the largest of MNIST has 47 million


def read_bytes(path: Path) -> bytes:
    """The archive, if it is not too large to be MNIST's.

    Raises:
        DatasetError: it is larger.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise DatasetError(f"{path} must have at most {LIMIT:,} bytes; got more")
    return data


def decode(data: bytes, axes: Sequence[int], name: object) -> Iterator[np.ndarray]:
    """The four arrays, uint8, in the order of `KEYS`.

    Args:
        data: the archive.
        axes: how many each array must have.
        name: what to call the file in an error.

    Raises:
        DatasetError: it is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            found = sorted(member.filename for member in archive.infolist())
            if found != sorted(f"{key}.npy" for key in KEYS):
                told = ", ".join(found[:8])
                raise DatasetError(f"{name} must hold the arrays {', '.join(KEYS)}, as Keras's; got {told!a}")
            for key, count in zip(KEYS, axes, strict=True):
                with archive.open(f"{key}.npy") as file:
                    content = file.read(LIMIT + 1)
                yield _array(content, count, f"{key} in {name}")
    except DatasetError:
        raise
    except Exception as error:  # zipfile and zlib raise whatever comes
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
            f"{name} must be uint8 with {axes} axes, row by row, of just its bytes; "
            f"got {header.dtype} {str(header.shape)[:100]} and {len(values):,} bytes"
        )
    return np.frombuffer(values, np.uint8).reshape(header.shape)
