"""A search that several workers share, on any machines: Optuna's study in a journal file or a database."""

import math
import os
import random
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax.cli.tune_study import check_settings, count_finished, load_study
from mnist_jax.errors import NotInstalledError, RunError, SpecError

if TYPE_CHECKING:
    import optuna

HEARTBEAT_S = 60  # of a database: how often a worker says that it works
SLOWEST = 10  # a trial that takes as many times the longest one so far is dead,
LEAST_S = 600  # if it takes longer than this
ATTEMPTS = 5  # to create a database's tables, beside other workers
WORKER, CLAIM = "worker", "trains the best"  # attributes of trials


class SurplusError(Exception):
    """A trial that is one too many, as another worker asked at the same moment."""


@contextmanager
def open_shared(storage: str, settings: dict[str, Any]) -> "Iterator[optuna.Study]":
    """Opens the search in a storage, or creates one.

    Args:
        storage: the path of a `.journal` file, or the address of a database, such as
            `postgresql://user@host/name`.
        settings: what all workers must agree on.

    Raises:
        SpecError: it is neither.
        RunError: it cannot be reached, is damaged, or has a search with other settings.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    backend = None
    try:
        backend = _backend(storage)
        study = load_study(backend)
        check_settings(study, settings, _shown(storage), "storage")
        yield study
    except (OSError, ValueError, KeyError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{_shown(storage)} must hold a search of tune, or be new; {reason}") from None
    finally:
        if isinstance(backend, optuna.storages.RDBStorage):
            backend.remove_session()
            backend.engine.dispose()


def _backend(storage: str) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if storage.endswith(".journal"):
        return optuna.storages.JournalStorage(JournalFileBackend(storage))
    try:
        with warnings.catch_warnings():  # heartbeats are experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _database(storage)
    except ImportError as error:  # of the database's driver
        missing = getattr(error.__cause__ or error, "name", None) or "psycopg"
        raise NotInstalledError("--storage", ModuleNotFoundError(name=missing)) from None


def _database(storage: str) -> "optuna.storages.RDBStorage":
    """Opens a database; of workers that create its tables at the same moment, all but one must try again."""
    import optuna
    from sqlalchemy.exc import DBAPIError

    pings = {"pool_pre_ping": True}
    connect = partial(
        optuna.storages.RDBStorage, storage, heartbeat_interval=HEARTBEAT_S, engine_kwargs=pings
    )
    for _ in range(ATTEMPTS - 1):
        try:
            return connect()
        except DBAPIError as error:
            if not _created_by_another(error):
                raise
        time.sleep(random.uniform(0.1, 1))
    return connect()


def _created_by_another(error: Exception) -> bool:
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    # PostgreSQL's drivers raise the first two; MySQL's an OperationalError, as for a server out of reach.
    return isinstance(error, IntegrityError | ProgrammingError) or "already exists" in str(error)


def check_storage(storage: str) -> None:
    """Checks the form of a storage.

    Raises:
        SpecError: it is neither a `.journal` file in a folder nor the address of a database.
    """
    if storage.endswith(".journal") and "://" not in storage:
        if not Path(storage).absolute().parent.is_dir():
            raise SpecError(f"--storage must be in a folder that exists; got {storage}")
    elif not storage.startswith(("postgresql://", "postgresql+", "mysql://", "mysql+")):
        raise SpecError(
            "--storage must be a .journal file, or the address of a database such as "
            f"postgresql://user@host/name; got {_shown(storage)}"
        )


def _shown(storage: str) -> str:
    """A storage without the password that its address may have."""
    start, separator, rest = storage.partition("://")
    return f"{start}{separator}{rest.rpartition('@')[2]}" if separator else storage


def work(
    study: "optuna.Study",
    count: int,
    objective: Callable[["optuna.Trial"], float],
    seed: int,
    callbacks: Sequence[Any],
) -> None:
    """Runs trials until, with those of all workers, there are as many as are wanted, or soon will be.

    Args:
        study: the search.
        count: the number of trials in all.
        objective: trains a trial's network; returns its validation accuracy.
        seed: of the search.
        callbacks: called with the study and each finished trial.
    """
    import optuna

    def of_trial(trial: "optuna.Trial") -> float:
        trial.set_user_attr(WORKER, _here())
        before = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
        if sum(map(_counts, before)) >= count:
            raise SurplusError
        # Suggestions depend on the trial's number, and not on which worker has it.
        study.sampler = optuna.samplers.TPESampler(seed=(seed + trial.number) % 2**32, constant_liar=True)
        return objective(trial)

    def only_own(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        if trial.state != optuna.trial.TrialState.FAIL:
            for callback in callbacks:
                callback(study, trial)

    while True:
        _end_dead_trials(study)
        if sum(map(_counts, study.get_trials(deepcopy=False))) >= count:
            return
        study.optimize(of_trial, n_trials=1, catch=(SurplusError,), callbacks=[only_own])


def claims_the_best(study: "optuna.Study", count: int) -> bool:
    """Whether this worker trains the best network: it is the first to ask when all trials are done."""
    import optuna

    if count_finished(study) < count:
        return False
    # A finished trial with an attribute is added at once, so that the lowest number is the first's.
    study.add_trial(
        optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={CLAIM: _here()})
    )
    trials = study.get_trials(deepcopy=False)
    patience = _patience(trials)
    claims = [trial for trial in trials if CLAIM in trial.user_attrs]
    alive = [trial.user_attrs[CLAIM] for trial in claims if not _is_dead(trial, CLAIM, patience)]
    return bool(alive[0] == _here())


def _counts(trial: "optuna.trial.FrozenTrial") -> bool:
    """Whether a trial is one of those that are wanted: finished, or at work."""
    return bool(trial.state.name in ("COMPLETE", "PRUNED", "RUNNING"))


def _end_dead_trials(study: "optuna.Study") -> None:
    """Gives up trials whose worker is gone, so that others take their place."""
    import optuna

    trials = study.get_trials(deepcopy=False)
    patience = _patience(trials)
    for trial in trials:
        if trial.state == optuna.trial.TrialState.RUNNING and _is_dead(trial, WORKER, patience):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)


def _patience(trials: "Sequence[optuna.trial.FrozenTrial]") -> float:
    """Seconds after which a worker that has not finished is dead."""
    longest = max((trial.duration.total_seconds() for trial in trials if trial.duration), default=0.0)
    return max(LEAST_S, SLOWEST * longest) if longest else math.inf


def _is_dead(trial: "optuna.trial.FrozenTrial", attribute: str, patience: float) -> bool:
    """Whether the worker that an attribute names is gone, or has taken too long."""
    start = trial.datetime_start
    late = start is not None and (datetime.now() - start).total_seconds() > patience
    return late or _is_gone(trial.user_attrs.get(attribute, ""))


def _here() -> str:
    """This process, on this machine."""
    return f"{socket.gethostname()} {os.getpid()}"


def _is_gone(worker: str) -> bool:
    """Whether a worker of this machine has ended; unknown of those of others."""
    host, _, number = worker.rpartition(" ")
    if host != socket.gethostname() or not number.isdecimal() or sys.platform == "win32":
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
