"""`mnist-jax sweep`."""

import io
import itertools
import shlex
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax._utils.process_setup import start_jax, start_matplotlib
from mnist_jax._utils.text import mean_and_std, percent
from mnist_jax.cli import console, network, options, parallel, progress
from mnist_jax.cli.datasets import load_new, new_run, source_from
from mnist_jax.config.presets import DEFAULT_PRESET, preset
from mnist_jax.config.training import HyperParams, check_hyperparams
from mnist_jax.config.validation import check_positive_int
from mnist_jax.errors import RunError, SpecError
from mnist_jax.parallel.selection import select_devices
from mnist_jax.runs import directory, locking, pipeline, provenance, session
from mnist_jax.runs.sweeps import sweep_session
from mnist_jax.runs.sweeps.sweep_results import SWEEP, sweep_from_json

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset

PLOT = "sweep.png"


def sweep(
    preset_name: options.PresetName = DEFAULT_PRESET,
    seeds: Annotated[int, typer.Option(metavar="N", help="Seeds per combination: 0 to N-1.")] = 4,
    learning_rate: Annotated[
        str | None,
        typer.Option(
            metavar="X,X", help="Learning rates to try. (default: the preset's)", show_default=False
        ),
    ] = None,
    weight_decay: Annotated[str | None, typer.Option(metavar="X,X", help="Weight decays to try.")] = None,
    label_smoothing: Annotated[
        str | None, typer.Option(metavar="X,X", help="Label smoothing values to try.")
    ] = None,
    hidden: network.Hidden = None,
    activation: network.ActivationName = None,
    output: network.OutputName = None,
    init: network.InitName = None,
    channels: network.Channels = None,
    kernel: network.KernelSize = None,
    pool: network.PoolName = None,
    padding: network.PaddingNames = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Epochs to train.")] = None,
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
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR",
            help="A new directory for the best run, or that of a stopped sweep, to resume it. "
            "(default: runs/sweep-TIME)",
            show_default=False,
        ),
    ] = None,
    devices: parallel.Devices = None,
    distributed: parallel.Distributed = False,
    coordinator: parallel.Coordinator = None,
    processes: parallel.Processes = None,
    process_id: parallel.ProcessId = None,
    heartbeat_timeout: parallel.HeartbeatTimeout = 100,
    startup_timeout: parallel.StartupTimeout = 300,
    platform: options.Platform = None,
    as_json: options.Json = False,
) -> None:
    """Train every combination of the given hyperparameters with every seed, and keep the best.

    The best combination has the highest mean accuracy on the validation set. Its first seed is then trained
    again, alone, into a run directory; only that network sees the test set. Results are saved to sweep.json
    as they arrive, and the same command resumes a sweep that was stopped.

    Example: mnist-jax sweep --preset mlp-100 --seeds 8 --learning-rate 3e-4,1e-3,3e-3
    """
    started = time.perf_counter()
    check_positive_int("seeds", seeds)
    source = source_from(
        data, test_data, test_fraction, classes, invert=invert, resize=resize, transposed=transposed
    )
    recipe = preset(preset_name)
    model = network.network_from(
        recipe.network,
        hidden=hidden,
        activation=activation,
        output=output,
        init=init,
        channels=channels,
        kernel=kernel,
        pool=pool,
        padding=padding,
    )
    config = replace(recipe.config, model=model, epochs=recipe.config.epochs if epochs is None else epochs)
    combinations = _combinations(recipe.hyperparams, learning_rate, weight_decay, label_smoothing)
    options.check_to_choose_by(validation_fraction)
    folder = out or locking.default_run_dir("sweep")
    resumed = (folder / SWEEP).exists() and not (folder / directory.METRICS).exists()
    group = parallel.join(distributed, coordinator, processes, process_id, heartbeat_timeout, startup_timeout)
    if not resumed:
        group.check_on_main(lambda: locking.check_new(folder))

    start_jax()
    start_matplotlib()
    chosen = select_devices(devices)
    loaded = group.together(lambda: load_new(dataset, data_dir, source, validation_fraction))
    run = new_run(preset_name, config, combinations[0], 0, loaded, source, validation_fraction)
    group.check_same(run)
    locked = locking.reopen_run_dir(folder) if resumed else locking.create_dir(folder)
    with ExitStack() as stack:
        group.check_on_main(lambda: stack.enter_context(locked))
        swept = sweep_session.complete(
            folder, run, combinations, seeds, loaded, started, chosen, print_status=console.print_status
        )
        if not group.is_main:  # the first trains the best, alone
            return
        run = replace(run, hyperparams=combinations[swept["best"]])
        start = _start(folder, run)
        write_atomic(folder / PLOT, _plot(swept))
        if not as_json:
            _show(swept)
        outcome, metrics = _train_best(folder, run, loaded, started, start)
    if as_json:
        console.print_json({"run": str(folder), "sweep": swept, **metrics})
    else:
        console.print_run(folder, metrics)
    console.report_status(folder, run, outcome)


def _combinations(
    defaults: HyperParams, learning_rate: str | None, weight_decay: str | None, label_smoothing: str | None
) -> list[HyperParams]:
    """Returns every combination of the options' values, checked."""
    grid = itertools.product(
        _numbers("learning-rate", learning_rate, defaults.learning_rate),
        _numbers("weight-decay", weight_decay, defaults.weight_decay),
        _numbers("label-smoothing", label_smoothing, defaults.label_smoothing),
    )
    combinations = [HyperParams(*values) for values in grid]
    for hyperparams in combinations:
        check_hyperparams(hyperparams)
    return combinations


def _start(folder: Path, run: directory.Run) -> pipeline.StartState:
    """Returns where the best run's training starts: at its seed, or where it was stopped.

    Raises:
        RunError: the directory holds another run.
        CheckpointError: as `session.newest`.
    """
    if not (folder / directory.CONFIG).exists():
        return pipeline.StartState()
    if directory.read(folder) != run:
        how = f"mnist-jax train --resume {shlex.quote(str(folder))}"
        raise RunError(f"{folder} has another run than this sweep's; resume it: {how}")
    return session.newest(folder, run, console.print_status)


def _train_best(
    folder: Path, run: directory.Run, data: "Dataset", started: float, start: pipeline.StartState
) -> tuple[pipeline.RunOutcome, dict[str, Any]]:
    """Trains the best combination into the directory; returns the outcome and `metrics.json`'s content."""
    versions = provenance.versions()
    directory.write_config(folder, run, versions)
    with progress.watch(run.config.epochs, len(start.history)) as shown:
        return session.complete(folder, run, data, versions, started, start, shown=shown)


def _numbers(name: str, text: str | None, default: float) -> list[float]:
    try:
        numbers = [default] if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise SpecError(f"--{name} must be numbers separated by commas; got {text!r}") from None
    if len(set(numbers)) < len(numbers):
        raise SpecError(f"--{name} must have each number only once; got {text!r}")
    return numbers


def _plot(swept: dict[str, Any]) -> bytes:
    """Returns a PNG of the sweep."""
    from matplotlib.figure import Figure

    from mnist_jax.report.plots import plot_sweep

    figure = Figure(figsize=(6, 4), layout="constrained")
    plot_sweep(sweep_from_json(swept).rows, ax=figure.subplots())
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _show(swept: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(
        "learning rate", "weight decay", "smoothing", "validation accuracy", "worst", "best", "", box=None
    )
    for index, row in enumerate(swept["rows"]):
        numbers = [f"{row[name]:g}" for name in ("learning_rate", "weight_decay", "label_smoothing")]
        good = [accuracy for accuracy in row["accuracies"] if accuracy is not None]
        if row["mean"] is None:
            scores = [f"{len(row['accuracies']) - len(good)} of {len(row['accuracies'])} diverged", "", ""]
        else:
            scores = [mean_and_std(row["mean"], row["std"]), *map(percent, (min(good), max(good)))]
        table.add_row(*numbers, *scores, "*" if index == swept["best"] else "")
    out = console.results()
    out.print(table)
    out.print(f"\n * kept; {swept['seconds']:.1f} s in total\n")
