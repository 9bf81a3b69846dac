"""`mnist-jax sweep`."""

import io
import itertools
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax import directories, machine, runs
from mnist_jax.cli import console, experiment, options, rows, session
from mnist_jax.cli.process import default_prng_impl, start_jax, start_matplotlib
from mnist_jax.errors import RunError, SpecError
from mnist_jax.files import write_atomic
from mnist_jax.presets import DEFAULT_PRESET, preset
from mnist_jax.settings import check_whole
from mnist_jax.specs import Hyper, check_hyper
from mnist_jax.swept import SWEEP, sweep_from_json

PLOT = "sweep.png"


def sweep(
    preset_name: options.PresetName = DEFAULT_PRESET,
    seeds: Annotated[int, typer.Option(metavar="N", help="Runs of each combination: seeds 0 to N-1.")] = 4,
    learning_rate: Annotated[
        str | None,
        typer.Option(metavar="X,X", help="Step sizes to try. (default: the preset's)", show_default=False),
    ] = None,
    weight_decay: Annotated[str | None, typer.Option(metavar="X,X", help="Weight decays to try.")] = None,
    label_smoothing: Annotated[
        str | None, typer.Option(metavar="X,X", help="Label smoothings to try.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training set.")] = None,
    dataset: options.DatasetName = None,
    data_dir: options.DataDir = None,
    validation_fraction: options.ToChooseBy = 1 / 6,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR",
            help="A new directory, for the winner, or one of a sweep that was stopped: then it goes on. "
            "(default: runs/sweep-TIME)",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train many runs at once, and keep the best: every combination of the given numbers, with every seed.

    The best is the combination with the highest mean accuracy on the validation set. Its first seed is then
    trained once more, alone, into a run directory; only that network sees the test set. What each combination
    reached is kept there in sweep.json at once, and the same command goes on with a sweep that was stopped.

    Example: mnist-jax sweep --preset mlp-100 --seeds 8 --learning-rate 3e-4,1e-3,3e-3
    """
    started = time.perf_counter()
    check_whole("seeds", seeds)
    recipe = preset(preset_name)
    config = recipe.config if epochs is None else replace(recipe.config, epochs=epochs)
    usual = recipe.hyper
    combinations = [
        Hyper(*numbers)
        for numbers in itertools.product(
            _numbers("learning-rate", learning_rate, usual.learning_rate),
            _numbers("weight-decay", weight_decay, usual.weight_decay),
            _numbers("label-smoothing", label_smoothing, usual.label_smoothing),
        )
    ]
    for hyper in combinations:
        check_hyper(hyper)
    options.check_to_choose_by(validation_fraction)
    folder = out or directories.fresh("sweep")
    begun = (folder / SWEEP).exists() and not (folder / runs.METRICS).exists()
    if not begun:
        directories.check_new(folder)

    start_jax()
    start_matplotlib()
    data = experiment.load_or_digits(dataset, data_dir, validation_fraction)
    facts = data.name, data.sha256, validation_fraction, default_prng_impl()
    run = runs.Run(preset_name, config, combinations[0], 0, *facts)
    versions = machine.versions()
    with directories.reopen(folder) if begun else directories.take(folder):
        found = rows.complete(folder, run, combinations, seeds, data, started)
        run = replace(run, hyper=combinations[found["best"]])
        begin = _begin(folder, run)
        write_atomic(folder / PLOT, _plot(found))
        if not as_json:
            _show(found)
        runs.write_config(folder, run, versions)
        outcome, metrics = session.complete(folder, run, data, versions, started, begin)
    if as_json:
        console.print_json({"run": str(folder), "sweep": found, **metrics})
    else:
        session.show(folder, metrics)
    session.conclude(folder, run, outcome)


def _begin(folder: Path, run: runs.Run) -> experiment.Begin:
    """Where the winner's training begins: at its seed, or where it was stopped.

    Raises:
        RunError: somebody has made another run of it since.
        CheckpointError: as `session.newest`.
    """
    if not (folder / runs.CONFIG).exists():
        return experiment.Begin()
    if runs.read(folder) != run:
        how = f"mnist-jax train --resume {shlex.quote(str(folder))}"
        raise RunError(f"{folder} has another run than this sweep's; go on with it: {how}")
    return session.newest(folder, run)


def _numbers(name: str, text: str | None, usual: float) -> list[float]:
    try:
        numbers = [usual] if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise SpecError(f"--{name} must be numbers with commas between them; got {text!r}") from None
    if len(set(numbers)) < len(numbers):
        raise SpecError(f"--{name} must have each number once; got {text!r}")
    return numbers


def _plot(found: dict[str, Any]) -> bytes:
    """The sweep as a picture."""
    from matplotlib.figure import Figure

    from mnist_jax.plots import plot_sweep

    figure = Figure(figsize=(6, 4), layout="constrained")
    plot_sweep(sweep_from_json(found).rows, ax=figure.subplots())
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(
        "learning rate", "weight decay", "smoothing", "validation accuracy", "worst", "best", "", box=None
    )
    for index, row in enumerate(found["rows"]):
        numbers = [f"{row[name]:g}" for name in ("learning_rate", "weight_decay", "label_smoothing")]
        good = [accuracy for accuracy in row["accuracies"] if accuracy is not None]
        if row["mean"] is None:
            scores = [f"{len(row['accuracies']) - len(good)} of {len(row['accuracies'])} diverged", "", ""]
        else:
            scores = [console.spread(row["mean"], row["std"]), *map(console.percent, (min(good), max(good)))]
        table.add_row(*numbers, *scores, "*" if index == found["best"] else "")
    out = console.results()
    out.print(table)
    out.print(f"\n * kept; {found['seconds']:.1f} s for all\n")
