"""A directory that is one process's alone: a new one, or one that is taken again."""

import itertools
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mnist_jax.errors import RunError
from mnist_jax.files import remove, target, temporaries

CONFIG, SWEEP, LOCK = "config.json", "sweep.json", ".lock"
# What commands write into a run directory, or into the one that `tune` makes around it.
OURS = {"config", "history", "metrics", "checkpoint", "model", "sweep", "report", "study"}


@contextmanager
def take(folder: Path) -> Iterator[None]:
    """Makes a new directory, this process's alone, and lets go of it in the end.

    If the body fails before it has written anything, nothing is left behind.

    Raises:
        RunError: there is something in it already, another process has it, or it cannot be written.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise RunError(f"a run needs a directory of its own; {folder}: it is a file") from None
    except OSError as error:
        raise unwritable(folder, error) from None
    check_new(folder)
    with hold(folder):
        check_new(folder)  # what was empty a moment ago may have been taken and left since
        remove(_leftovers(folder))
        try:
            yield
        except BaseException:
            if _names(folder) <= {CONFIG}:
                for name in (CONFIG, LOCK):
                    (folder / name).unlink(missing_ok=True)
                with suppress(OSError):  # what is in one now is not ours, and the error is another
                    for path in created:
                        path.rmdir()
            raise


@contextmanager
def reopen(folder: Path) -> Iterator[None]:
    """Takes a run directory again, to train on; what a process that was killed left half-written goes.

    Raises:
        RunError: another process is at work in it, or it cannot be written.
    """
    with hold(folder):
        remove(_leftovers(folder))
        yield


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a directory; the system lets go when this one ends, however it ends.

    Raises:
        RunError: another process is at work in it, or it cannot be written.
    """
    import filelock

    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunError(
            f"a run needs a directory of its own; {folder}: another process is at work in it"
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def unwritable(folder: Path, error: OSError) -> RunError:
    """The error for a directory that can't be written."""
    return RunError(f"a run needs a directory that can be written; {folder}: {error.strerror}")


def check_new(folder: Path) -> None:
    """Checks that a directory is not there yet, or is empty but for what a process that was killed left.

    Raises:
        RunError: it holds something, or is a file; says how a run that is there goes on.
    """
    if folder.is_file():
        raise RunError(f"a run needs a directory of its own; {folder}: it is a file")
    names = _names(folder) if folder.exists() else set()
    if CONFIG in names:
        how = f"mnist-jax train --resume {shlex.quote(str(folder))}"
        raise RunError(f"a run needs a new or an empty directory; {folder} holds a run; go on with it: {how}")
    if names:
        held = "a stopped sweep, with which the same command goes on" if SWEEP in names else "other files"
        raise RunError(f"a run needs a new or an empty directory; {folder} holds {held}")


def _names(folder: Path) -> set[str]:
    """What a directory holds, without the lock and what a killed process has left."""
    return {path.name for path in folder.iterdir()} - {LOCK} - {path.name for path in _leftovers(folder)}


def _leftovers(folder: Path) -> list[Path]:
    return [path for path in temporaries(folder) if target(path).partition(".")[0] in OURS]


def fresh(name: str) -> Path:
    """A directory below `runs` that is not there yet, named after the time."""
    start = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbered = (Path(f"{start}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([start], numbered) if not path.exists())
