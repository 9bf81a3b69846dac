"""Files that are either whole or not there."""

import os
import re
import secrets
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")  # .NAME.TOKEN


def write_atomic(path: Path, data: bytes, *, previous: Path | None = None) -> None:
    """Writes `data` so that after a crash the old file or the new one is there, never a part.

    With `previous`, the old file is kept under that name; a crash can then leave it there alone. What an
    earlier process left behind when it was killed while it wrote this file is removed first.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the old file is still there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        remove(left for left in temporaries(path.parent) if target(left) == path.name)
        with _create(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":  # where no file that is open can be renamed
                file.close()
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


def target(temporary: Path) -> str:
    """The name of the file that a temporary was to become."""
    return temporary.name[1:].rpartition(".")[0]


def remove(leftovers: Iterable[Path]) -> None:
    """Removes temporaries, but for those that a process is writing now, which has them locked.

    Their age would not tell: what was killed a second ago is to go, and a slow disk takes minutes. Where the
    file system has no locks, nothing is removed.
    """
    for path in leftovers:
        if path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError):
            if sys.platform == "win32":  # where nobody can remove a file that is open
                path.unlink()
            else:
                with path.open("rb+") as file:
                    _lock(file, wait=False)
                    path.unlink()


def _create(temporary: Path) -> IO[bytes]:
    """A new file, locked for as long as it is open, where the file system can."""
    while True:
        file = temporary.open("xb")
        with suppress(OSError):
            _lock(file, wait=True)
        if temporary.exists():
            return file
        file.close()  # another process took it for a leftover, in the moment before it was locked


def _lock(file: IO[bytes], *, wait: bool) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
