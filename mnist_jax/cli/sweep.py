"""`mnist-jax sweep`."""

import io
import itertools
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax import machine, runs
from mnist_jax.cli import console, experiment, options, session
from mnist_jax.cli.process import default_prng_impl, start_jax, start_matplotlib
from mnist_jax.errors import SpecError
from mnist_jax.files import write_atomic
from mnist_jax.presets import DEFAULT_PRESET, preset
from mnist_jax.results import SWEEP, sweep_from_json
from mnist_jax.settings import check_whole
from mnist_jax.specs import Config, Hyper, check_hyper

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset
    from mnist_jax.loop import EpochRecord


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
            help="A new directory, for the winner. (default: runs/sweep-TIME)",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train many runs at once, and keep the best: every combination of the given numbers, with every seed.

    The best is the combination with the highest mean accuracy on the validation set. Its first seed is then
    trained once more, alone, into a run directory; only that network sees the test set.

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
    folder = out or runs.fresh("sweep")
    runs.check_new(folder)

    start_jax()
    start_matplotlib()
    data = experiment.load_or_digits(dataset, data_dir, validation_fraction)
    rows = _train(config, combinations, seeds, data)
    finite = [index for index, row in enumerate(rows) if row["mean"] is not None]
    if not finite:
        largest = max(hyper.learning_rate for hyper in combinations)
        raise SpecError(
            f"some run must stay within the finite numbers; none did, at learning rates up to {largest:g}"
        )
    best = max(finite, key=lambda index: rows[index]["mean"])
    found = {
        "format": 1,
        "seeds": seeds,
        "seconds": round(time.perf_counter() - started, 3),
        "best": best,
        "rows": rows,
    }
    facts = data.name, data.sha256, validation_fraction, default_prng_impl()
    run = runs.Run(preset_name, config, combinations[best], 0, *facts)
    versions = machine.versions()
    with runs.claim(folder, run, versions):
        write_atomic(folder / SWEEP, (json.dumps(found, indent=2) + "\n").encode())
        write_atomic(folder / PLOT, _plot(found))
        outcome, metrics = session.complete(folder, run, data, versions, started)
    if as_json:
        console.print_json({"run": str(folder), "sweep": found, **metrics})
    else:
        _show(found)
        session.show(folder, metrics)
    session.conclude(folder, run, outcome)


def _numbers(name: str, text: str | None, usual: float) -> list[float]:
    try:
        numbers = [usual] if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise SpecError(f"--{name} must be numbers with commas between them; got {text!r}") from None
    if len(set(numbers)) < len(numbers):
        raise SpecError(f"--{name} must have each number once; got {text!r}")
    return numbers


def _train(config: Config, combinations: list[Hyper], seeds: int, data: "Dataset") -> list[dict[str, Any]]:
    """A row for each combination: its numbers, and what its runs reached."""
    import jax
    import numpy as np

    from mnist_jax.sweep import fit_many

    count = len(combinations) * seeds
    console.note(f"{count} runs of {config.model}, epochs each: {config.epochs}")
    keys = jax.vmap(jax.random.key)(np.tile(np.arange(seeds, dtype=np.uint32), len(combinations)))
    hyper = Hyper(*(np.repeat(column, seeds) for column in zip(*combinations, strict=True)))

    def after_epoch(first: int, records: "Sequence[EpochRecord]") -> None:
        accuracies = [record.validation_accuracy or 0.0 for record in records]
        runs_now = f"runs {first + 1} to {first + len(records)} of {count}"
        reached = f"{console.percent(min(accuracies))} to {console.percent(max(accuracies))}"
        console.note(f"{runs_now}, epoch {records[0].epoch}/{config.epochs}: validation {reached}")

    many = fit_many(config, data.train, data.validation, keys=keys, hyper=hyper, callback=after_epoch)
    last = [history[-1] for history in many.histories]
    rows = []
    for index, numbers in enumerate(combinations):
        mine = last[index * seeds : (index + 1) * seeds]
        accuracies = [
            record.validation_accuracy
            if math.isfinite(record.loss) and math.isfinite(record.validation_loss or 0.0)
            else None
            for record in mine
        ]
        rows.append(_row(numbers, accuracies))
    return rows


def _row(hyper: Hyper, accuracies: list[float | None]) -> dict[str, Any]:
    """A combination and its runs; where one has diverged, there is no mean."""
    good = [accuracy for accuracy in accuracies if accuracy is not None]
    whole = len(good) == len(accuracies)
    return {
        **hyper._asdict(),
        "accuracies": accuracies,
        "mean": statistics.fmean(good) if whole else None,
        "std": statistics.stdev(good) if whole and len(good) > 1 else None,
    }


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
