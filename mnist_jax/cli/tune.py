"""`mnist-jax tune`."""

import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax import directories, machine, runs
from mnist_jax.cli import console, experiment, options, session
from mnist_jax.cli.process import default_prng_impl, start_jax
from mnist_jax.errors import DivergenceError, RunError
from mnist_jax.files import write_atomic
from mnist_jax.networks import MLP, Activation
from mnist_jax.optimizers import Schedule
from mnist_jax.presets import STRONG
from mnist_jax.settings import check_whole
from mnist_jax.specs import Config, Hyper

if TYPE_CHECKING:
    import optuna

    from mnist_jax.datasets import Dataset
    from mnist_jax.loop import EpochRecord

STUDY, RUN, NAME = "study.db", "run", "mnist-jax"
# What SQLite says of a disk that is full, fails or cannot be written, rather than of what is in a file.
DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


def tune(
    trials: Annotated[
        int, typer.Option(metavar="N", help="Networks to try, those of an earlier call included.")
    ] = 20,
    epochs: Annotated[int, typer.Option(metavar="N", help="Passes over the training set, for each.")] = 10,
    dataset: options.DatasetName = None,
    data_dir: options.DataDir = None,
    validation_fraction: options.ToChooseBy = 1 / 6,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the search, and of every network.")] = 0,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="A new directory, or one that `tune` wrote: then it goes on.")
    ] = Path("runs/tuned"),
    as_json: options.Json = False,
) -> None:
    """Search for a good multi-layer perceptron and its training: widths, rates, dropout, deformation.

    The search is Optuna's, which the extra `tune` installs: from the fifth network on, what falls behind
    the median after an epoch is stopped. It is kept in DIR/study.db after each network, and the same
    command goes on with it. The best by validation accuracy is trained again into DIR/run; only that
    network sees the test set.

    Example: mnist-jax tune --trials 30 --epochs 10 --out runs/tuned
    """
    check_whole("trials", trials)
    check_whole("epochs", epochs)
    runs.check_seed(seed)
    options.check_to_choose_by(validation_fraction)
    begun = (out / STUDY).exists()
    if not begun:
        directories.check_new(out)
    if (out / RUN / runs.CONFIG).exists():
        raise RunError(
            f"{out / RUN} must not be there yet; move it away to search on, or go on with it: "
            f"mnist-jax train --resume {shlex.quote(str(out / RUN))}"
        )
    directories.check_new(out / RUN)
    try:
        import optuna
    except ImportError:
        raise RunError('tune needs Optuna, which is not installed; pip install "mnist-jax[tune]"') from None

    start_jax()
    data = experiment.load_or_digits(dataset, data_dir, validation_fraction)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked = {
        "dataset": data.name,
        "data": data.sha256,
        "epochs": epochs,
        "validation_fraction": validation_fraction,
        "seed": seed,
        "prng_impl": default_prng_impl(),
    }
    with directories.reopen(out) if begun else directories.take(out), _study(out, asked) as study:
        study.optimize(
            lambda trial: _try(trial, data, epochs, seed),
            n_trials=max(0, trials - _done(study)),
            callbacks=[lambda _, trial: _tell(trial, epochs)],
        )
        best, count = study.best_trial, _done(study)
    started = time.perf_counter()
    config, hyper = _suggest(best, epochs)
    keys = default_prng_impl()
    run = runs.Run("tuned", config, hyper, seed, data.name, data.sha256, validation_fraction, keys)
    versions = machine.versions()
    with runs.claim(out / RUN, run, versions):
        outcome, metrics = session.complete(out / RUN, run, data, versions, started)
    if as_json:
        found = {"trials": count, "best": best.number, "settings": best.params}
        console.print_json({"run": str(out / RUN), "search": found, **metrics})
    else:
        session.show(out / RUN, metrics)
    session.conclude(out / RUN, run, outcome)


@contextmanager
def _study(out: Path, asked: dict[str, Any]) -> "Iterator[optuna.Study]":
    """The search in a directory, a new one or one to go on with; it is closed in the end.

    Raises:
        RunError: it is one for something else, or the file is damaged or cannot be written.
        OSError: a new one cannot be written.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    storage = None
    try:
        tables = _tables(out / STUDY)
        if not tables:
            (out / f"{STUDY}-journal").unlink(missing_ok=True)
            write_atomic(out / STUDY, _empty(asked))
        elif "studies" not in tables:
            raise RunError(f"{out / STUDY} must be a search that tune wrote; it is another database")
        storage = optuna.storages.RDBStorage(f"sqlite:///{(out / STUDY).resolve()}")
        study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        )
        # Another seed for each call, or one that goes on would begin with the same suggestions again.
        study.sampler = optuna.samplers.TPESampler(seed=(asked["seed"] + len(study.trials)) % 2**32)
        for name, value in asked.items():
            if (was := study.user_attrs.get(name, value)) != value:
                other = f"on another {asked['dataset']}, sha256" if name == "data" else f"with {name}"
                raise RunError(f"{out} has a search {other} {was!r}; got {value!r}; name another directory")
        for name in asked.keys() - study.user_attrs.keys():  # which an older version did not keep
            study.set_user_attr(name, asked[name])
        yield study
    except (sqlite3.Error, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        if (said := _of_the_disk(error)) is not None:
            raise RunError(
                f"{out / STUDY} cannot be written: {said}; once it can be, the same command goes on"
            ) from None
        raise RunError(f"{out / STUDY} must be a search that tune wrote; {error}") from None
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def _tables(path: Path) -> set[str]:
    """The names of a database's tables; none where there is no file, or one that was never filled."""
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as file:
        return {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _empty(asked: dict[str, Any]) -> bytes:
    """A new search as a whole file: Optuna would make one table after the other in it."""
    import optuna
    from sqlalchemy.pool import StaticPool

    in_memory = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=in_memory)
    study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize")
    for name, value in asked.items():
        study.set_user_attr(name, value)
    with closing(storage.engine.raw_connection()) as connection:
        database: Any = connection.driver_connection
        content: bytes = database.serialize()
    storage.remove_session()
    storage.engine.dispose()
    return content


def _of_the_disk(error: BaseException | None) -> str | None:
    """What SQLite says of the disk, where that is what an error comes from."""
    while error is not None:
        # In its lowest byte the kind, in those above the details.
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in DISK:
            return str(error)
        error = error.__cause__
    return None


def _done(study: "optuna.Study") -> int:
    """How many networks have been tried to their end; what was interrupted is none."""
    import optuna

    ended = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
    return len(study.get_trials(deepcopy=False, states=ended))


def _suggest(trial: "optuna.trial.BaseTrial", epochs: int) -> tuple[Config, Hyper]:
    """A network and its training, as the search suggests it or has suggested it."""
    layers = trial.suggest_int("layers", 1, 3)
    widths = tuple(trial.suggest_int(f"width_{i}", 64, 1024, log=True) for i in range(layers))
    relu: Activation = "relu"
    strength = trial.suggest_float("deformation", 0.0, 1.2)
    config = Config(
        MLP(widths, (relu,) * layers),
        epochs,
        trial.suggest_categorical("batch_size", (64, 128, 256)),
        schedule=Schedule("cosine"),
        dropout=trial.suggest_float("dropout", 0.0, 0.5),
        deformation=STRONG.times(strength),
    )
    rate = trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True)
    return config, Hyper(rate, 0.0, trial.suggest_float("label_smoothing", 0.0, 0.2))


def _try(trial: "optuna.Trial", data: "Dataset", epochs: int, seed: int) -> float:
    """The validation accuracy of what a trial suggests; ends it where it falls behind."""
    import jax
    import optuna

    from mnist_jax.loop import fit

    config, hyper = _suggest(trial, epochs)
    behind = False

    def after_epoch(record: "EpochRecord", _: Any) -> bool:
        nonlocal behind
        trial.report(record.validation_accuracy or 0.0, record.epoch)
        behind = record.epoch < epochs and trial.should_prune()
        return behind

    key = jax.random.key(seed)
    try:
        history = fit(config, data.train, data.validation, key=key, hyper=hyper, callback=after_epoch).history
    except DivergenceError as error:
        raise optuna.TrialPruned(str(error)) from None
    if behind:
        raise optuna.TrialPruned
    return history[-1].validation_accuracy or 0.0


def _tell(trial: "optuna.trial.FrozenTrial", epochs: int) -> None:
    """Says what became of a network, once it is kept."""
    config, _ = _suggest(trial, epochs)
    reached = trial.intermediate_values
    last = max(reached, default=0)
    score = console.percent(reached[last]) if reached else "no finite numbers"
    ended = f"{epochs} epochs" if last == epochs else f"stopped after {last}"
    console.note(f"network {trial.number + 1}: {config.model}: {score} ({ended})")
