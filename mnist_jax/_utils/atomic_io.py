"""Atomic writes, and bounded reads of untrusted files."""

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

DEEPEST = 50  # levels of nested lists and objects
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")  # .NAME.TOKEN


def write_atomic(path: Path, data: bytes, *, previous: Path | None = None) -> None:
    """Writes a file atomically: after a crash either the old or the new file is there, never a part.

    Args:
        path: the file to write.
        data: its content.
        previous: keeps an existing file under this name. A crash can then leave only that one.

    Raises:
        OSError: the disk is full, or the directory is not writable; the old file is unchanged.
    """
    write_together({path: data}, previous=previous)


def write_together(contents: Mapping[Path, bytes], *, previous: Path | None = None) -> None:
    """Writes several files of one directory, as atomically as file systems allow.

    All files are written under temporary names and renamed once all are on the disk. A full disk or a crash
    before the first rename leaves every old file unchanged. A crash between two renames leaves a mix of new
    and old files, so readers must be able to detect that. Temporary files that a killed process left for
    these names are removed first.

    Args:
        contents: the files' contents by path.
        previous: keeps an existing file under this name; for a single file only.

    Raises:
        OSError: the disk is full, or the directory is not writable; the old files are unchanged, unless a
            rename itself failed.
    """
    token = secrets.token_hex(4)
    renames = {path: path.with_name(f".{path.name}.{token}") for path in contents}
    path = next(iter(renames))
    try:
        with ExitStack() as opened:  # open files stay locked until all are renamed
            for path, temporary in renames.items():
                remove(left for left in temporaries(path.parent) if target(left) == path.name)
                file = opened.enter_context(_create(temporary))
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":  # an open file cannot be renamed there
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
            error.filename, error.filename2 = str(path), None  # not the temporary name
        raise
    _sync_folder(path.parent)


def check_ordinary(path: str | os.PathLike[str], limit: int) -> None:
    """Checks that a path is a regular file of at most `limit` bytes, without opening it.

    Opening a pipe would block until something writes to it, and a device may never end.

    Raises:
        OSError: it is something else, larger, or missing.
    """
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it must be an ordinary file; got a pipe, a device or a socket", path)
    if status.st_size > limit:
        message = f"it must have at most {limit:,} bytes; got {status.st_size:,}"
        raise OSError(errno.EFBIG, message, path)


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Reads a regular file of at most `limit` bytes.

    Raises:
        OSError: as `check_ordinary`, or it is not readable.
    """
    check_ordinary(path, limit)
    with Path(path).open("rb") as file:
        data = file.read(limit + 1)  # it may have grown, and /proc files report no size
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it must have at most {limit:,} bytes; got more", path)
    return data


def parse_json(data: bytes | str) -> Any:
    """Parses JSON of limited depth, so that recursive functions can process the result.

    Raises:
        ValueError: it is not JSON, or is nested deeper than `DEEPEST`.
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
    """Lists the temporary files in a directory that a process killed in `write_atomic` left."""
    return [path for path in folder.glob(".*") if TEMPORARY.fullmatch(path.name)]


def target(temporary: Path) -> str:
    """Returns the name of the file that a temporary file was written for."""
    return temporary.name[1:].rpartition(".")[0]


def remove(leftovers: Iterable[Path]) -> None:
    """Removes temporary files, except those that a running process has locked.

    Locks decide, not age: a process may have been killed a second ago, and a slow disk takes minutes. Where
    the file system has no locks, nothing is removed.
    """
    for path in leftovers:
        if path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError):
            if sys.platform == "win32":  # an open file cannot be removed there
                path.unlink()
            else:
                with path.open("rb+") as file:
                    _lock(file, wait=False)
                    # Another process may have removed it, and a third one created it again.
                    if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                        path.unlink()


def _create(temporary: Path) -> IO[bytes]:
    """Creates a file that stays locked while it is open, where the file system supports locks."""
    while True:
        file = temporary.open("xb")
        with suppress(OSError):
            _lock(file, wait=True)
        if temporary.exists():
            return file
        file.close()  # another process removed it before it was locked


def _lock(file: IO[bytes], *, wait: bool) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power failure, where the system supports it."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
