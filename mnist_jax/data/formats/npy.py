"""Safe reading of the header of an untrusted .npy file.

A .npy file consists of a magic number, a version, a header (the text of a Python dict) and the values.
"""

import warnings
from io import BytesIO
from typing import NamedTuple

import numpy as np


class Header(NamedTuple):
    """The header of a .npy file.

    Attributes:
        shape: shape of the array.
        by_columns: whether the values are in Fortran order.
        dtype: dtype of the values.
        offset: number of bytes before the values.
    """

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype
    offset: int


def read_header(data: bytes) -> Header:
    """Read a header without allocating memory for the values.

    Raises:
        ValueError: if it is missing or damaged.
    """
    file = BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example about files from Python 2
            version = np.lib.format.read_magic(file)
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]  # later versions are only for structured dtypes
            shape, by_columns, dtype = reader(file)
    except Exception as error:  # NumPy uses Python's parser, which may raise anything
        raise ValueError(f"its header: {' '.join(str(error).split())[:200]}") from None
    if not all(type(length) is int and length >= 0 for length in shape):  # `type`, to reject True
        raise ValueError(f"its header: a shape must be whole numbers; got {str(shape)[:100]}")
    return Header(shape, by_columns, dtype, file.tell())
