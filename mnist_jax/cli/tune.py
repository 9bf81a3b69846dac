"""`mnist-jax tune`."""

import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax._utils.process_setup import default_prng_impl, start_jax
from mnist_jax._utils.text import percent
from mnist_jax.cli import console, options, progress
from mnist_jax.cli.datasets import for_classes, load_new, new_run, source_from
from mnist_jax.config.networks import MLP, Activation
from mnist_jax.config.optimizers import Schedule
from mnist_jax.config.presets import STRONG
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.config.validation import check_positive_int
from mnist_jax.errors import DivergenceError, RunError
from mnist_jax.runs import directory, locking, provenance, session

if TYPE_CHECKING:
    import optuna

    from mnist_jax.data.datasets import Dataset
    from mnist_jax.training.records import EpochRecord

STUDY, RUN, NAME = "study.db", "run", "mnist-jax"
# SQLite's codes for a full, failing or read-only disk, as opposed to a damaged file.
DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


def tune(
    trials: Annotated[
        int, typer.Option(metavar="N", help="Trials in total, including those of earlier calls.")
    ] = 20,
    epochs: Annotated[int, typer.Option(metavar="N", help="Epochs per trial.")] = 10,
    dataset: options.DatasetName = None,
    data_dir: options.DataDir = None,
    data: options.OwnData = None,
    test_data: options.TestData = None,
    test_fraction: options.TestFraction = None,
    classes: options.ClassNames = None,
    invert: options.Invert = False,
    resize: options.Resize = False,
    transposed: options.Transposed = False,
    validation_fraction: options.ToChooseBy = 1 / 6,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the search and of every network.")] = 0,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="A new directory, or that of an earlier search, to resume it.")
    ] = Path("runs/tuned"),
    as_json: options.Json = False,
) -> None:
    """Search for a good multi-layer perceptron: layer sizes, learning rate, dropout, deformation and more.

    The search uses Optuna, which the extra `tune` installs. From the fifth trial on, trials below the median
    are pruned after an epoch. Each trial is saved to DIR/study.db, and the same command resumes the search.
    The network with the best validation accuracy is trained again into DIR/run; only that one sees the test
    set.

    Example: mnist-jax tune --trials 30 --epochs 10 --out runs/tuned
    """
    check_positive_int("trials", trials)
    check_positive_int("epochs", epochs)
    directory.check_seed(seed)
    options.check_to_choose_by(validation_fraction)
    source = source_from(
        data, test_data, test_fraction, classes, invert=invert, resize=resize, transposed=transposed
    )
    resumed = (out / STUDY).exists()
    if not resumed:
        locking.check_new(out)
    if (out / RUN / directory.CONFIG).exists():
        raise RunError(
            f"{out / RUN} must not exist yet; move it away to continue the search, or resume it: "
            f"mnist-jax train --resume {shlex.quote(str(out / RUN))}"
        )
    locking.check_new(out / RUN)
    try:
        import optuna
    except ImportError:
        raise RunError('tune needs Optuna, which is not installed; pip install "mnist-jax[tune]"') from None

    start_jax()
    loaded = load_new(dataset, data_dir, source, validation_fraction)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings = {
        "dataset": loaded.name,
        "data": loaded.sha256,
        "epochs": epochs,
        "validation_fraction": validation_fraction,
        "seed": seed,
        "prng_impl": default_prng_impl(),
    }
    with locking.reopen_run_dir(out) if resumed else locking.create_dir(out), _study(out, settings) as study:
        study.optimize(
            lambda trial: _objective(trial, loaded, epochs, seed),
            n_trials=max(0, trials - _count_finished(study)),
            callbacks=[lambda _, trial: _print_trial(trial, epochs)],
        )
        best, count = study.best_trial, _count_finished(study)
    started = time.perf_counter()
    config, hyperparams = _suggest(best, epochs)
    run = new_run("tuned", config, hyperparams, seed, loaded, source, validation_fraction)
    versions = provenance.versions()
    with directory.create_run_dir(out / RUN, run, versions), progress.watch(epochs) as on_epoch:
        outcome, metrics = session.complete(out / RUN, run, loaded, versions, started, on_epoch=on_epoch)
    if as_json:
        search = {"trials": count, "best": best.number, "settings": best.params}
        console.print_json({"run": str(out / RUN), "search": search, **metrics})
    else:
        console.print_run(out / RUN, metrics)
    console.report_status(out / RUN, run, outcome)


@contextmanager
def _study(out: Path, settings: dict[str, Any]) -> "Iterator[optuna.Study]":
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
        study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        )
        # A resumed search needs another seed, or it would repeat its first suggestions.
        study.sampler = optuna.samplers.TPESampler(seed=(settings["seed"] + len(study.trials)) % 2**32)
        for name, value in settings.items():
            if (saved := study.user_attrs.get(name, value)) != value:
                other = f"on another {settings['dataset']}, sha256" if name == "data" else f"with {name}"
                raise RunError(
                    f"{out} has a search {other} {saved!r}; got {value!r}; choose another directory"
                )
        for name in settings.keys() - study.user_attrs.keys():  # not saved by older versions
            study.set_user_attr(name, settings[name])
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


def _count_finished(study: "optuna.Study") -> int:
    """Counts the completed and pruned trials, without interrupted ones."""
    import optuna

    finished = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
    return len(study.get_trials(deepcopy=False, states=finished))


def _suggest(trial: "optuna.trial.BaseTrial", epochs: int) -> tuple[Config, HyperParams]:
    """Returns the configuration and the hyperparameters of a new or a finished trial."""
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
        deformation=STRONG.scaled(strength),
    )
    rate = trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True)
    return config, HyperParams(rate, 0.0, trial.suggest_float("label_smoothing", 0.0, 0.2))


def _objective(trial: "optuna.Trial", data: "Dataset", epochs: int, seed: int) -> float:
    """Trains a trial's network, and returns its validation accuracy.

    Raises:
        optuna.TrialPruned: it is below the median, or diverged.
    """
    import jax
    import optuna

    from mnist_jax.training.loop import fit

    config, hyperparams = _suggest(trial, epochs)
    config = for_classes(config, data)
    pruned = False

    def after_epoch(record: "EpochRecord", _: Any) -> bool:
        nonlocal pruned
        trial.report(record.validation_accuracy or 0.0, record.epoch)
        pruned = record.epoch < epochs and trial.should_prune()
        return pruned

    key = jax.random.key(seed)
    try:
        history = fit(
            config, data.train, data.validation, key=key, hyperparams=hyperparams, callback=after_epoch
        ).history
    except DivergenceError as error:
        raise optuna.TrialPruned(str(error)) from None
    if pruned:
        raise optuna.TrialPruned
    return history[-1].validation_accuracy or 0.0


def _print_trial(trial: "optuna.trial.FrozenTrial", epochs: int) -> None:
    """Prints a trial's result, after it is saved."""
    config, _ = _suggest(trial, epochs)
    accuracies = trial.intermediate_values
    last = max(accuracies, default=0)
    score = percent(accuracies[last]) if accuracies else "diverged"
    length = f"{epochs} epochs" if last == epochs else f"stopped after {last}"
    console.print_status(f"trial {trial.number + 1}: {config.model}: {score} ({length})")
