"""Files that are either whole or not there."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")  # .NAME.TOKEN


def write_atomic(path: Path, data: bytes, *, previous: Path | None = None) -> None:
    """Writes `data` so that after a crash the old file or the new one is there, never a part.

    With `previous`, the old file is kept under that name; a crash can then leave it there alone.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the old file is still there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # the temporary name would tell nobody anything
        raise
    _sync_folder(path.parent)


def temporaries(folder: Path) -> list[Path]:
    """What a process that was killed in `write_atomic` has left in a folder."""
    return [path for path in folder.glob(".*") if TEMPORARY.fullmatch(path.name)]


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
