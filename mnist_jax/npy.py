"""The header of a .npy file, read from bytes of which nothing is known.

A .npy file is: a magic number, its version, a header that is the text of a Python dict, then the values.
"""

import warnings
from io import BytesIO
from typing import NamedTuple

import numpy as np


class Header(NamedTuple):
    """What a .npy file says of its values.

    Attributes:
        shape: of the array, whole numbers of at least 0.
        by_columns: whether its first axis is the fastest, as in Fortran.
        dtype: of its values.
        offset: bytes before these.
    """

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype
    offset: int


def read_header(data: bytes) -> Header:
    """The header, without the memory for the values that it announces.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    file = BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python 2, for one
            version = np.lib.format.read_magic(file)
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]  # a later one is for names of columns, which pictures have none of
            shape, by_columns, dtype = reader(file)
    except Exception as error:  # NumPy has Python's parser read the header, which raises whatever comes
        raise ValueError(f"its header: {' '.join(str(error).split())[:200]}") from None
    if not all(type(length) is int and length >= 0 for length in shape):  # which True is none of
        raise ValueError(f"its header: a shape must be whole numbers; got {str(shape)[:100]}")
    return Header(shape, by_columns, dtype, file.tell())
