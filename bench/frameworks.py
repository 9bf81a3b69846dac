"""`bench frameworks`: the same training in other frameworks, interleaved in one run."""

import statistics
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bench import options, output
from bench.timing import summarize
from bench.workers import OURS, TRAINERS, Process, running, select

CLOCK = (
    "One epoch with the same network, batches, loss and Adam. Each program runs in a process of its own, "
    "and the programs alternate. A program times itself, from the call for an epoch until its parameters "
    "are ready; one warm-up epoch is excluded. Median, fastest and slowest; ratios are to mnist-jax in "
    "the same round."
)


def frameworks(
    names: options.Peers = None,
    preset_name: options.PresetName = "mlp-100",
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option("--batch-size", metavar="N", help="Batch size; may be repeated. (default: 32, 128)"),
    ] = None,
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Epochs to time.")] = 5,
    environments: options.Environments = options.ENVIRONMENTS,
    python: options.Python = sys.executable,
    out: options.Out = None,
) -> None:
    """Seconds per epoch and accuracy of mnist-jax, Keras, PyTorch and a plain JAX loop.

    Example: mnist-jax bench frameworks --batch-size 32 --python python3.11
    """
    from mnist_jax import load, preset
    from mnist_jax.config.validation import check_positive_int

    check_positive_int("repeats", repeats)
    baselines = select(TRAINERS, names)
    data = load(dataset, data_dir, validation_fraction=0.0)
    spec = preset(preset_name).network
    result = output.new("frameworks", CLOCK) | {
        "dataset": dataset,
        "preset": preset_name,
        "epochs": repeats + 1,
    }
    for size in batch_sizes or (32, 128):
        with running(baselines, environments, python, data, spec, size) as processes:
            result["rows"] += _compare(processes, size, repeats)
    output.finish(result, COLUMNS, _plot, out, f"frameworks-{preset_name}")


def _compare(processes: Mapping[str, Process], batch_size: int, repeats: int) -> list[dict[str, Any]]:
    """Times epochs of all programs in alternation, then scores each on the test set."""
    for process in processes.values():
        process.request("epoch")
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(repeats):
        for name, process in processes.items():
            time.sleep(0.3)  # until the threads of the previous program are idle
            seconds[name].append(process.request("epoch")["seconds"])
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
            "test_accuracy": process.request("score")["accuracy"],
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
