"""`bench time-to-accuracy`: seconds from the start of a process to 97, 98 and 99 % test accuracy."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import options, output
from bench.time_to_accuracy_worker import RECIPES, Recipe
from bench.timing import summarize
from mnist_jax.errors import RunError

CLOCK = (
    "From the start of a separate process until it has printed the accuracy and exited: imports, reading "
    "the data, compilation, training on all training images, and one evaluation on the test set. Cold: "
    "with an empty compilation cache; warm: with JAX's compilation cache filled by an earlier run. "
    "Median, fastest and slowest over the seeds. Recipes were fixed beforehand on validation data; a "
    "target is reached if the mean over the seeds reaches it."
)
COMMAND = "mnist-jax train"


def time_to_accuracy(
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="P", help="97, 98 or 99; may be repeated. (default: all)"),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Trainings per target, with seeds 0 to N-1.")] = 10,
    validation: Annotated[
        bool, typer.Option("--validation", help="Score on validation data instead of the test set.")
    ] = False,
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    out: options.Out = None,
) -> None:
    """Seconds from the start of a process to a target test accuracy, cold and warm.

    Example: mnist-jax bench time-to-accuracy --target 97
    """
    from mnist_jax import load
    from mnist_jax.config.validation import check_choice, check_positive_int

    check_positive_int("seeds", seeds)
    for target in targets or ():
        check_choice("target", target, tuple(RECIPES))
    load(dataset, data_dir)  # download and cache the data before timing
    held_out = "validation" if validation else "test"
    result = output.new("time_to_accuracy", CLOCK) | {
        "dataset": dataset,
        "seeds": seeds,
        "held_out": held_out,
    }
    data_dirs = [] if data_dir is None else [str(data_dir)]
    for name in targets or RECIPES:
        recipe = RECIPES[name]
        command = [
            sys.executable,
            "-m",
            "bench.time_to_accuracy_worker",
            name,
            "{seed}",
            held_out,
            dataset,
            *data_dirs,
        ]
        result["rows"].append({"program": "one function"} | _measure(recipe, command, seeds))
        if name == "97" and not validation:
            result["rows"].append(
                {"program": COMMAND} | _measure(recipe, _train(recipe, dataset, data_dirs), seeds)
            )
    output.finish(result, COLUMNS, _plot, out)


def _train(recipe: Recipe, dataset: str, data_dirs: list[str]) -> list[str]:
    """The recipe as a command, which also writes a run directory with a checkpoint and an ONNX file."""
    config = recipe.config
    return [
        *(sys.executable, "-m", "mnist_jax.cli", "train", "--preset", "mlp-100", "--json"),
        *("--epochs", str(config.epochs), "--batch-size", str(config.batch_size)),
        *("--learning-rate", str(recipe.learning_rate), "--schedule", config.schedule.name),
        *("--validation-fraction", "0", "--seed", "{seed}", "--out", "{folder}/run", "--dataset", dataset),
        *(("--data-dir", *data_dirs) if data_dirs else ()),
    ]


def _measure(recipe: Recipe, command: list[str], seeds: int) -> dict[str, Any]:
    """Runs a command for each seed, alternating between cold and warm."""
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    accuracies = []
    with tempfile.TemporaryDirectory() as warm:
        _run(command, 0, Path(warm))
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as cold:
                for name, folder in (("cold", cold), ("warm", warm)):
                    elapsed, accuracy = _run(command, seed, Path(folder))
                    seconds[name].append(elapsed)
            accuracies.append(accuracy)
    mean = statistics.fmean(accuracies)
    return {
        "target": recipe.target,
        "network": str(recipe.config.model),
        "epochs": recipe.config.epochs,
        "batch_size": recipe.config.batch_size,
        "learning_rate": recipe.learning_rate,
        "schedule": str(recipe.config.schedule),
        "accuracy": mean,
        "std": statistics.stdev(accuracies) if seeds > 1 else None,
        "accuracies": accuracies,
        "reached": mean >= recipe.target,
        "cold_seconds": summarize(seconds["cold"])._asdict(),
        "warm_seconds": summarize(seconds["warm"])._asdict(),
    }


def _run(command: list[str], seed: int, cache: Path) -> tuple[float, float]:
    """Runs the command; returns the seconds of its process and the accuracy that it printed."""
    variables = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        filled = [part.replace("{seed}", str(seed)).replace("{folder}", folder) for part in command]
        start = time.perf_counter()
        done = subprocess.run(filled, env=variables, capture_output=True, text=True, check=False)
        elapsed = time.perf_counter() - start
    if done.returncode:
        error = (done.stderr.splitlines() or ["none"])[-1]
        raise RunError(f"{' '.join(filled)} must succeed; its error: {error}")
    printed = json.loads(done.stdout)
    return elapsed, float(printed["accuracy"] if "accuracy" in printed else printed["test"]["accuracy"])


def _seconds(row: dict[str, Any], name: str) -> str:
    return "{median:.1f} ({low:.1f} to {high:.1f})".format(**row[name])


COLUMNS = (
    ("target", lambda row: f"{row['target']:.0%}"),
    ("program", lambda row: row["program"]),
    ("network", lambda row: row["network"]),
    ("epochs", lambda row: str(row["epochs"])),
    ("test accuracy", lambda row: f"{row['accuracy']:.2%}" + (f" ± {row['std']:.2%}" if row["std"] else "")),
    ("reached", lambda row: "yes" if row["reached"] else "no"),
    ("cold, s", lambda row: _seconds(row, "cold_seconds")),
    ("warm, s", lambda row: _seconds(row, "warm_seconds")),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    names = [f"{row['target']:.0%}, {row['program']}" for row in rows][::-1]
    positions = list(range(len(rows)))
    for shift, name in ((0.2, "cold"), (-0.2, "warm")):
        seconds = [row[f"{name}_seconds"]["median"] for row in rows][::-1]
        axes.barh([position + shift for position in positions], seconds, height=0.4, label=name)
    axes.set_yticks(positions, names)
    axes.set(xlabel="seconds from the start of the process", title="Time to accuracy")
    axes.legend()
