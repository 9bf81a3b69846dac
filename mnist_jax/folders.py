"""The user's folder with a data set: which it is, and what in it is the data set."""

import os
from pathlib import Path

from mnist_jax.errors import DatasetError


def named(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder that the caller or the environment names, if any.

    Raises:
        DatasetError: it is no directory.
    """
    given = data_dir if data_dir is not None else os.environ.get("MNIST_JAX_DATA_DIR") or None
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise DatasetError(f"the data folder must be a directory's path; got {given!r}")
    try:
        folder = Path(given).expanduser()
    except RuntimeError as error:  # of a user that does not exist
        raise DatasetError(f"the data folder must be a directory; {given}: {error}") from None
    if not folder.is_dir():
        came = "it is a file" if folder.is_file() else "it does not exist"
        raise DatasetError(f"the data folder must be a directory with MNIST's four files; {folder}: {came}")
    return folder
