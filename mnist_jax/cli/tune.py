"""`mnist-jax tune`."""

import functools
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.process_setup import default_prng_impl, start_jax
from mnist_jax._utils.text import percent
from mnist_jax.cli import console, network, options, progress
from mnist_jax.cli.datasets import for_classes, load_new, new_run, source_from
from mnist_jax.cli.tune_space import Space
from mnist_jax.cli.tune_study import STUDY, count_finished, open_study
from mnist_jax.cli.tune_workers import check_storage, claims_the_best, open_shared, work
from mnist_jax.config.validation import check_positive_int
from mnist_jax.errors import DivergenceError, RunError
from mnist_jax.runs import directory, locking, provenance, session

if TYPE_CHECKING:
    import optuna

    from mnist_jax.data.datasets import Dataset
    from mnist_jax.training.records import EpochRecord

RUN = "run"


def tune(
    trials: Annotated[
        int, typer.Option(metavar="N", help="Trials in total, including those of earlier calls.")
    ] = 20,
    epochs: Annotated[int, typer.Option(metavar="N", help="Epochs per trial.")] = 10,
    kind: Annotated[str, typer.Option("--network", metavar="K", help="Networks to try: mlp or cnn.")] = "mlp",
    hidden: network.Hidden = None,
    activation: network.ActivationName = None,
    output: network.OutputName = None,
    init: network.InitName = None,
    channels: network.Channels = None,
    kernel: network.KernelSize = None,
    pool: network.PoolName = None,
    padding: network.PaddingNames = None,
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
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.journal|URL",
            help="Share the search with other workers, by a file or a database: postgresql://user@host/name.",
            show_default=False,
        ),
    ] = None,
    platform: options.Platform = None,
    as_json: options.Json = False,
) -> None:
    """Search for a good network: layer sizes, learning rate, dropout, deformation and more.

    Options of the network that are given are not searched.

    The search uses Optuna, which the extra `tune` installs. From the fifth trial on, trials below the median
    are pruned after an epoch. Each trial is saved to DIR/study.db, and the same command resumes the search.
    The network with the best validation accuracy is trained again into DIR/run; only that one sees the test
    set. With --storage, the same command on any number of machines works on one search.

    Example: mnist-jax tune --trials 30 --epochs 10 --out runs/tuned
    """
    check_positive_int("trials", trials)
    check_positive_int("epochs", epochs)
    directory.check_seed(seed)
    options.check_to_choose_by(validation_fraction)
    space = Space(kind, hidden, activation, output, init, channels, kernel, pool, padding)
    source = source_from(
        data, test_data, test_fraction, classes, invert=invert, resize=resize, transposed=transposed
    )
    resumed = (out / STUDY).exists()
    if storage is not None:
        check_storage(storage)
    elif not resumed:
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
        "network": space.described(),
    }
    objective = functools.partial(_objective, space=space, data=loaded, epochs=epochs, seed=seed)
    callbacks = [lambda _, trial: _print_trial(trial, space, epochs)]
    if storage is None:
        with (
            locking.reopen_run_dir(out) if resumed else locking.create_dir(out),
            open_study(out, settings) as study,
        ):
            missing = max(0, trials - count_finished(study))
            study.optimize(objective, n_trials=missing, callbacks=callbacks)
            best, count = study.best_trial, count_finished(study)
    else:
        with open_shared(storage, settings) as study:
            work(study, trials, objective, seed, callbacks)
            best, count = study.best_trial, count_finished(study)
            is_mine = claims_the_best(study, trials)
        if not is_mine:
            _leave_the_rest(count, trials, as_json)
            return
    started = time.perf_counter()
    config, hyperparams = space.suggest(best, epochs)
    run = new_run("tuned", config, hyperparams, seed, loaded, source, validation_fraction)
    versions = provenance.versions()
    with directory.create_run_dir(out / RUN, run, versions), progress.watch(epochs) as shown:
        outcome, metrics = session.complete(out / RUN, run, loaded, versions, started, shown=shown)
    if as_json:
        search = {"trials": count, "best": best.number, "settings": best.params}
        console.print_json({"run": str(out / RUN), "search": search, **metrics})
    else:
        console.print_run(out / RUN, metrics)
    console.report_status(out / RUN, run, outcome)


def _leave_the_rest(count: int, trials: int, as_json: bool) -> None:
    """Says that another worker ends the search."""
    console.print_status(f"{count} of {trials} trials are done; another worker trains the best network")
    if as_json:
        console.print_json({"run": None, "search": {"trials": count}})


def _objective(trial: "optuna.Trial", space: Space, data: "Dataset", epochs: int, seed: int) -> float:
    """Trains a trial's network, and returns its validation accuracy.

    Raises:
        optuna.TrialPruned: it is below the median, or diverged.
    """
    import jax
    import optuna

    from mnist_jax.training.loop import fit

    config, hyperparams = space.suggest(trial, epochs)
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


def _print_trial(trial: "optuna.trial.FrozenTrial", space: Space, epochs: int) -> None:
    """Prints a trial's result, after it is saved."""
    config, _ = space.suggest(trial, epochs)
    accuracies = trial.intermediate_values
    last = max(accuracies, default=0)
    score = percent(accuracies[last]) if accuracies else "diverged"
    length = f"{epochs} epochs" if last == epochs else f"stopped after {last}"
    console.print_status(f"trial {trial.number + 1}: {config.model}: {score} ({length})")
