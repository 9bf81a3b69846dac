"""Directories that are locked for one process: new ones, and existing ones that are reopened."""

import itertools
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mnist_jax._utils.atomic_io import remove, target, temporaries
from mnist_jax.errors import RunError

CONFIG, SWEEP, LOCK = "config.json", "sweep.json", ".lock"
# Stems of the files that commands write into a run directory, or into the one that `tune` creates around it.
OURS = {"config", "history", "metrics", "checkpoint", "model", "sweep", "report", "study"}


@contextmanager
def create_dir(folder: Path) -> Iterator[None]:
    """Creates a directory, and locks it for this process until the body ends.

    If the body fails before it writes anything, the directory is removed again.

    Raises:
        RunError: the directory is not empty, locked by another process, or not writable.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise RunError(f"a run needs a directory of its own; {folder} is a file") from None
    except OSError as error:
        raise unwritable(folder, error) from None
    check_new(folder)
    with lock_dir(folder):
        check_new(folder)  # another process may have used it meanwhile
        remove(_leftovers(folder))
        try:
            yield
        except BaseException:
            if _names(folder) <= {CONFIG}:
                for name in (CONFIG, LOCK):
                    (folder / name).unlink(missing_ok=True)
                with suppress(OSError):  # it may hold other files, and the first error matters
                    for path in created:
                        path.rmdir()
            raise


@contextmanager
def reopen_run_dir(folder: Path) -> Iterator[None]:
    """Locks an existing run directory, and removes temporary files that a killed process left.

    Raises:
        RunError: the directory is locked by another process, or not writable.
    """
    with lock_dir(folder):
        remove(_leftovers(folder))
        yield


@contextmanager
def lock_dir(folder: Path) -> Iterator[None]:
    """Locks a directory for this process; the system releases the lock when the process ends in any way.

    Raises:
        RunError: the directory is locked by another process, or not writable.
    """
    import filelock

    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunError(f"a run needs a directory of its own; {folder} is in use by another process") from None
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    finally:
        with suppress(
            PermissionError
        ):  # Windows cannot remove an open file; a leftover lock file is harmless
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def unwritable(folder: Path, error: OSError) -> RunError:
    """Returns the error for a directory that is not writable."""
    return RunError(f"a run needs a writable directory; {folder}: {error.strerror}")


def check_new(folder: Path) -> None:
    """Checks that a directory does not exist, or is empty apart from a killed process's temporary files.

    Raises:
        RunError: it holds files, or is a file; the message says how to resume a run that is there.
    """
    if folder.is_file():
        raise RunError(f"a run needs a directory of its own; {folder} is a file")
    names = _names(folder) if folder.exists() else set()
    if CONFIG in names:
        how = f"mnist-jax train --resume {shlex.quote(str(folder))}"
        raise RunError(f"a run needs a new or an empty directory; {folder} holds a run; resume it: {how}")
    if names:
        held = "a stopped sweep, which its own command resumes" if SWEEP in names else "other files"
        raise RunError(f"a run needs a new or an empty directory; {folder} holds {held}")


def _names(folder: Path) -> set[str]:
    """Names the files of a directory, without the lock and a killed process's temporary files."""
    return {path.name for path in folder.iterdir()} - {LOCK} - {path.name for path in _leftovers(folder)}


def _leftovers(folder: Path) -> list[Path]:
    return [path for path in temporaries(folder) if target(path).partition(".")[0] in OURS]


def default_run_dir(name: str) -> Path:
    """Returns the path of a new directory below `runs`, named after the current time."""
    start = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbered = (Path(f"{start}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([start], numbered) if not path.exists())
