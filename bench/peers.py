"""`bench peers`: the same training, by what people would use instead, taking turns in one run."""

import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import report
from bench.clock import summarize
from bench.programs import ENVIRONMENTS, OURS, TRAINERS, Environments, Process, Python, chosen, started

CLOCK = (
    "One epoch of the same network, batches, loss and Adam, each program in a process of its own, taking "
    "turns; the clock is the program's own, from the call for an epoch until its parameters are ready; one "
    "epoch before is not on it. Median, fastest and slowest; ratios are to mnist-jax in the same round."
)


def peers(
    names: Annotated[
        list[str] | None, typer.Option("--peer", metavar="P", help="May be repeated. (default: all)")
    ] = None,
    preset_name: Annotated[str, typer.Option("--preset", metavar="P", help="Which network.")] = "mlp-100",
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option("--batch-size", metavar="N", help="May be repeated."),
    ] = None,
    dataset: Annotated[str, typer.Option(metavar="D", help="What to train on.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it is.")] = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Epochs that are timed.")] = 5,
    environments: Environments = ENVIRONMENTS,
    python: Python = sys.executable,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write JSON, Markdown and a plot.")] = None,
) -> None:
    """Seconds per epoch of Keras, PyTorch and plain JAX loops beside ours, with the accuracy of each.

    Example: python -m bench peers --batch-size 32 --python python3.11
    """
    from mnist_jax import load, preset
    from mnist_jax.settings import check_whole

    check_whole("repeats", repeats)
    rivals = chosen(TRAINERS, names)
    data = load(dataset, data_dir, validation_fraction=0.0)
    spec = preset(preset_name).config.model
    result = report.new("peers", CLOCK) | {"dataset": dataset, "preset": preset_name, "epochs": repeats + 1}
    for size in batch_sizes or (32, 128):
        with started(rivals, environments, python, data, spec, size) as processes:
            result["rows"] += _compare(processes, size, repeats)
    report.finish(result, COLUMNS, _plot, out, f"peers-{preset_name}")


def _compare(processes: Mapping[str, Process], batch_size: int, repeats: int) -> list[dict[str, Any]]:
    """Lets them take turns, and asks each what it has learned."""
    for process in processes.values():
        process.ask("epoch")
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(repeats):
        for name, process in processes.items():
            time.sleep(0.3)  # for the threads of the last one to go to sleep
            seconds[name].append(process.ask("epoch")["seconds"])
    ratios = {
        name: [own / ours for own, ours in zip(seconds[name], seconds[OURS], strict=True)] for name in seconds
    }
    return [
        {
            "peer": name,
            "batch_size": batch_size,
            "versions": process.versions,
            "epoch_seconds": summarize(seconds[name])._asdict(),
            "ratio": statistics.median(ratios[name]),
            "ratio_low": min(ratios[name]),
            "ratio_high": max(ratios[name]),
            "test_accuracy": process.ask("score")["accuracy"],
        }
        for name, process in processes.items()
    ]


COLUMNS = (
    ("batch", lambda row: str(row["batch_size"])),
    ("program", lambda row: row["peer"]),
    ("versions", lambda row: ", ".join(f"{name} {number}" for name, number in row["versions"].items())),
    ("s/epoch", lambda row: "{median:.2f} ({low:.2f} to {high:.2f})".format(**row["epoch_seconds"])),
    ("ratio", lambda row: f"{row['ratio']:.1f} ({row['ratio_low']:.1f} to {row['ratio_high']:.1f})"),
    ("test accuracy", lambda row: f"{row['test_accuracy']:.2%}"),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    labels = [f"{row['peer']}, batch {row['batch_size']}" for row in rows]
    axes.barh(labels[::-1], [row["ratio"] for row in rows][::-1])
    axes.set(xlabel="times mnist-jax's seconds per epoch (shorter is faster)", title="The same training")
