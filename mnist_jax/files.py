"""Files that are either whole or not there, and files of whoever made them, read with care."""

import errno
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

DEEPEST = 50  # lists and objects in each other
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")  # .NAME.TOKEN


def write_atomic(path: Path, data: bytes, *, previous: Path | None = None) -> None:
    """Writes `data` so that after a crash the old file or the new one is there, never a part.

    With `previous`, the old file is kept under that name; a crash can then leave it there alone.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the old file is still there.
    """
    write_together({path: data}, previous=previous)


def write_together(contents: Mapping[Path, bytes], *, previous: Path | None = None) -> None:
    """Writes several files of one folder, so that the old ones or the new ones are there.

    All are written under other names first, and renamed when all are on the disk. A full disk or a crash
    before that leaves every old file. No file system renames several files at once: a crash between two
    renames leaves the first files new and the others old, so who reads them must be able to tell. What an
    earlier process left behind when it was killed while it wrote these files is removed first.

    With `previous`, the old file is kept under that name: for one file alone.

    Raises:
        OSError: the disk is full, or the folder cannot be written; all old files are still there, unless
            a rename itself has failed.
    """
    token = secrets.token_hex(4)
    renames = {path: path.with_name(f".{path.name}.{token}") for path in contents}
    path = next(iter(renames))
    try:
        with ExitStack() as opened:  # and locked until all are renamed
            for path, temporary in renames.items():
                remove(left for left in temporaries(path.parent) if target(left) == path.name)
                file = opened.enter_context(_create(temporary))
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":  # where no file that is open can be renamed
                    file.close()
            if previous is not None and path.exists():
                path.replace(previous)
            for path, temporary in renames.items():
                temporary.replace(path)
    except BaseException as error:
        for temporary in renames.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # the temporary name would tell nobody anything
        raise
    _sync_folder(path.parent)


def check_ordinary(path: str | os.PathLike[str], limit: int) -> None:
    """Checks that there is an ordinary file of at most so many bytes, without opening it.

    Opening a pipe would wait for whoever writes into it, and a device may never end.

    Raises:
        OSError: it is something else, larger, or not there.
    """
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it must be an ordinary file; got a pipe, a device or a socket", path)
    if status.st_size > limit:
        came = f"it must have at most {limit:,} bytes; got {status.st_size:,}"
        raise OSError(errno.EFBIG, came, path)


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of an ordinary file of at most so many bytes.

    Raises:
        OSError: as `check_ordinary`, or it may not be read.
    """
    check_ordinary(path, limit)
    with Path(path).open("rb") as file:
        data = file.read(limit + 1)  # a file may have grown, and some of the system's tell no size
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it must have at most {limit:,} bytes; got more", path)
    return data


def parse_json(data: bytes | str) -> Any:
    """What JSON holds, nested no deeper than functions that call themselves can follow.

    Raises:
        ValueError: it is no JSON, or is nested deeper.
    """
    try:
        values = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [values]
    for _ in range(DEEPEST):
        level = [
            inner
            for value in level
            for inner in (
                value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            )
        ]
    if level:
        raise ValueError("it is nested too deeply")
    return values


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
                    # Another process may have removed it since, and its owner made one of the same name.
                    if os.path.samestat(path.stat(), os.fstat(file.fileno())):
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
