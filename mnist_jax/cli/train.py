"""`mnist-jax train`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax import machine, runs
from mnist_jax.cli import console, experiment, options, progress
from mnist_jax.errors import DatasetUnavailableError, DivergenceError, SpecError
from mnist_jax.presets import DEFAULT_PRESET, preset
from mnist_jax.specs import Hyper, check_hyper

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset


def train(
    preset_name: Annotated[
        str, typer.Option("--preset", metavar="P", help="A recipe; `mnist-jax presets` lists them.")
    ] = DEFAULT_PRESET,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            help="mnist, fashion_mnist, kmnist or digits. [default: mnist, or digits where it can't be had]",
            show_default=False,
        ),
    ] = None,
    data_dir: options.DataDir = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training set.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Examples per step.")] = None,
    learning_rate: Annotated[float, typer.Option(metavar="X", help="Adam's step size.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(metavar="X", help="Decoupled, as in AdamW.")] = 0.0,
    label_smoothing: Annotated[
        float, typer.Option(metavar="X", help="Share of the target for all classes.")
    ] = 0.0,
    validation_fraction: Annotated[
        float | None, typer.Option(metavar="X", help="Held out of the training set, at its end.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same machine: same network.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR", help="A new directory. [default: runs/PRESET-DATASET-TIME]", show_default=False
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train a network, score it on the test set, export it to ONNX, and prove the file equal.

    Settings that are not given come from the preset.

    Example: mnist-jax train --preset mlp-100 --epochs 5 --seed 1
    """
    recipe = preset(preset_name)
    config = recipe.config
    config = config if epochs is None else replace(config, epochs=epochs)
    config = config if batch_size is None else replace(config, batch_size=batch_size)
    hyper = Hyper(learning_rate, weight_decay, label_smoothing)
    check_hyper(hyper)
    if not 0 <= seed < 2**32:
        raise SpecError(f"seed must be a whole number from 0 to {2**32 - 1}; got {seed}")
    fraction = recipe.validation_fraction if validation_fraction is None else validation_fraction

    from mnist_jax.cli.process import start_jax

    start = time.perf_counter()
    start_jax()
    data = _load(dataset, data_dir, fraction)
    run = runs.Run(preset_name, config, hyper, seed, data.name, data.sha256, fraction)
    folder = out or Path("runs") / f"{preset_name}-{data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    versions = machine.versions()
    with runs.claim(folder, run, versions):
        console.note(f"{preset_name} on {data.name}: {config.model}, {config.model.parameters:,} parameters")
        try:
            with progress.epochs(config.epochs) as show:
                outcome = experiment.perform(run, data, lambda record, _: show(record))
        except DivergenceError as error:
            from mnist_jax import checkpoint

            runs.write_history(folder, error.history)
            checkpoint.save(folder / runs.CHECKPOINT, error.state, {"preset": preset_name})
            raise DivergenceError(
                f"{error}; the last finite state is in {folder}", error.state, error.history
            ) from None
        metrics = _metrics(run, outcome, time.perf_counter() - start, versions)
        _write(folder, outcome, metrics)
    if as_json:
        console.print_json({"run": str(folder), **metrics})
    else:
        _show(folder, metrics)
    if not outcome.parity.passed:
        raise typer.Exit(1)


def _load(dataset: str | None, data_dir: Path | None, fraction: float) -> "Dataset":
    """The named data set; if none is named, MNIST, and `digits` only where MNIST can't be had."""
    from mnist_jax.datasets import load

    if dataset is not None:
        return load(dataset, data_dir, validation_fraction=fraction)
    try:
        return load("mnist", data_dir, validation_fraction=fraction)
    except DatasetUnavailableError as error:
        console.note(f"WARNING: training on the small built-in data set `digits` instead of MNIST: {error}")
        return load("digits", validation_fraction=fraction)


def _metrics(
    run: runs.Run, outcome: experiment.Outcome, seconds: float, versions: dict[str, str]
) -> dict[str, Any]:
    """The content of `metrics.json`."""
    validation = outcome.validation
    return {
        "dataset": run.dataset,
        "preset": run.preset,
        "seed": run.seed,
        "parameters": run.config.model.parameters,
        "train": experiment.summary(outcome.train),
        "validation": None if validation is None else experiment.summary(validation),
        "test": {**experiment.summary(outcome.test), "confusion": outcome.test.confusion.tolist()},
        "seconds": round(seconds, 3),
        "seconds_compiling": round(outcome.fit.compile_seconds, 3),
        "seconds_training": round(sum(record.seconds for record in outcome.fit.history), 3),
        "device": machine.device(),
        "versions": versions,
        "onnx": outcome.parity._asdict(),
    }


def _write(folder: Path, outcome: experiment.Outcome, metrics: dict[str, Any]) -> None:
    import mnist_onnx
    from mnist_jax import checkpoint

    facts = {"preset": metrics["preset"], "dataset": metrics["dataset"], "seed": metrics["seed"]}
    checkpoint.save(folder / runs.CHECKPOINT, outcome.fit.state, facts)
    runs.write_history(folder, outcome.fit.history)
    mnist_onnx.save(outcome.model, folder / runs.MODEL)
    runs.write_metrics(folder, metrics)


def _show(folder: Path, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name in ("train", "validation", "test"):
        if scores := metrics[name]:
            table.add_row(name, console.score(scores))
    table.add_row("ONNX", proof_line(metrics["onnx"]))
    table.add_row("time", f"{metrics['seconds']:.1f} s on {metrics['device']}")
    table.add_row("data", metrics["dataset"])
    table.add_row("run", str(folder))
    console.results().print(table)


def proof_line(onnx: dict[str, Any]) -> str:
    """A parity result in one line."""
    verdict = "equals JAX" if onnx["passed"] else "DIFFERS FROM JAX"
    return (
        f"{verdict}: {onnx['n']:,} images and {onnx['noise']} of noise, "
        f"{onnx['disagreements']} other answers, largest difference {onnx['max_abs_difference']:.1e}"
    )
