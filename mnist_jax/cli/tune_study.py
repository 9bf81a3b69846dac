"""The search of `mnist-jax tune` on disk: Optuna's study in an SQLite file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax.errors import RunError

if TYPE_CHECKING:
    import optuna

STUDY, NAME = "study.db", "mnist-jax"
# SQLite's codes for a full, failing or read-only disk, as opposed to a damaged file.
DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


@contextmanager
def open_study(out: Path, settings: dict[str, Any]) -> "Iterator[optuna.Study]":
    """Opens the search in a directory, or creates one; closes it in the end.

    Raises:
        RunError: the search has other settings, or its file is damaged or not writable.
        OSError: a new file cannot be written.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    storage = None
    try:
        tables = _tables(out / STUDY)
        if not tables:
            (out / f"{STUDY}-journal").unlink(missing_ok=True)
            write_atomic(out / STUDY, _empty_study(settings))
        elif "studies" not in tables:
            raise RunError(f"{out / STUDY} must be a search written by tune; it is another database")
        storage = optuna.storages.RDBStorage(f"sqlite:///{(out / STUDY).resolve()}")
        study = load_study(storage)
        # A resumed search needs another seed, or it would repeat its first suggestions.
        study.sampler = optuna.samplers.TPESampler(seed=(settings["seed"] + len(study.trials)) % 2**32)
        check_settings(study, settings, str(out), "directory")
        yield study
    except (sqlite3.Error, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        if (reason := _disk_error(error)) is not None:
            raise RunError(
                f"{out / STUDY} must be writable; {reason}; the same command then resumes the search"
            ) from None
        raise RunError(f"{out / STUDY} must be a search written by tune; {error}") from None
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def load_study(storage: "optuna.storages.BaseStorage") -> "optuna.Study":
    """Returns the search in a storage, or a new one.

    It stops trials below the median, from the fifth on, after an epoch.
    """
    import optuna

    return optuna.create_study(
        storage=storage,
        study_name=NAME,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )


def check_settings(study: "optuna.Study", settings: dict[str, Any], place: str, kind: str) -> None:
    """Checks that a search was started with these settings, and saves those that it does not have.

    Raises:
        RunError: it has others; the message names the place where it is, and what kind it is.
    """
    for name, value in settings.items():
        if (saved := study.user_attrs.get(name, value)) != value:
            other = f"on another {settings['dataset']}, sha256" if name == "data" else f"with {name}"
            raise RunError(f"{place} has a search {other} {saved!r}; got {value!r}; choose another {kind}")
    for name in settings.keys() - study.user_attrs.keys():  # a new search, or of an older version
        study.set_user_attr(name, settings[name])


def _tables(path: Path) -> set[str]:
    """Returns the names of a database's tables; none if the file is missing or empty."""
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as file:
        return {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _empty_study(settings: dict[str, Any]) -> bytes:
    """Returns a new search as the bytes of its file, since Optuna itself would not create it atomically."""
    import optuna
    from sqlalchemy.pool import StaticPool

    in_memory = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=in_memory)
    study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize")
    for name, value in settings.items():
        study.set_user_attr(name, value)
    with closing(storage.engine.raw_connection()) as connection:
        database: Any = connection.driver_connection
        content: bytes = database.serialize()
    storage.remove_session()
    storage.engine.dispose()
    return content


def _disk_error(error: BaseException | None) -> str | None:
    """Returns SQLite's message if an error was caused by the disk."""
    while error is not None:
        # The lowest byte is the primary code.
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in DISK:
            return str(error)
        error = error.__cause__
    return None


def count_finished(study: "optuna.Study") -> int:
    """Counts the completed and pruned trials, without interrupted ones."""
    import optuna

    finished = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
    return len(study.get_trials(deepcopy=False, states=finished))
