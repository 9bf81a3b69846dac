"""`bench accuracy`: seconds from the start of a process to 97, 98 and 99 %."""

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

from bench import report
from bench.clock import summarize
from bench.sprint import RECIPES, Recipe
from mnist_jax.errors import RunError

CLOCK = (
    "From the start of a process of its own until it has printed the accuracy and ended: imports, reading"
    " the data, compiling, training on all images, and the one evaluation on the test set. Cold: nothing "
    "compiled before; warm: JAX's cache of compiled programs filled by a run before. Median, fastest and "
    "slowest of the seeds. Recipes were fixed beforehand on validation data; a target is reached where "
    "the mean of the seeds is."
)
COMMAND = "mnist-jax train"


def accuracy(
    targets: Annotated[
        list[str] | None, typer.Option("--target", metavar="P", help="97, 98 or 99; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Trainings per target: seeds 0 to N-1.")] = 10,
    validation: Annotated[
        bool, typer.Option("--validation", help="Score on held-out training images, to choose recipes by.")
    ] = False,
    dataset: Annotated[str, typer.Option(metavar="D", help="What to train on.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it is.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write JSON, Markdown and a plot.")] = None,
) -> None:
    """Seconds from the start of a process to a test accuracy, cold and warm.

    Example: python -m bench accuracy --target 97
    """
    from mnist_jax import load
    from mnist_jax.settings import check_one_of, check_whole

    check_whole("seeds", seeds)
    for target in targets or ():
        check_one_of("target", target, tuple(RECIPES))
    load(dataset, data_dir)  # fetched and unpacked before the clock starts
    held_out = "validation" if validation else "test"
    result = report.new("accuracy", CLOCK) | {"dataset": dataset, "seeds": seeds, "held_out": held_out}
    where = [] if data_dir is None else [str(data_dir)]
    for name in targets or RECIPES:
        recipe = RECIPES[name]
        command = [sys.executable, "-m", "bench.sprint", name, "{seed}", held_out, dataset, *where]
        result["rows"].append({"program": "one function"} | _race(recipe, command, seeds))
        if name == "97" and not validation:
            result["rows"].append({"program": COMMAND} | _race(recipe, _train(recipe, dataset, where), seeds))
    report.finish(result, COLUMNS, _plot, out)


def _train(recipe: Recipe, dataset: str, where: list[str]) -> list[str]:
    """The recipe as a command line; it leaves a run directory with a checkpoint and a proven ONNX file."""
    config = recipe.config
    return [
        *(sys.executable, "-m", "mnist_jax.cli", "train", "--preset", "mlp-100", "--json"),
        *("--epochs", str(config.epochs), "--batch-size", str(config.batch_size)),
        *("--learning-rate", str(recipe.learning_rate), "--schedule", config.schedule.name),
        *("--validation-fraction", "0", "--seed", "{seed}", "--out", "{folder}/run", "--dataset", dataset),
        *(("--data-dir", *where) if where else ()),
    ]


def _race(recipe: Recipe, command: list[str], seeds: int) -> dict[str, Any]:
    """Runs a command for each seed, cold and warm, taking turns."""
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    accuracies = []
    with tempfile.TemporaryDirectory() as warm:
        _run(command, 0, Path(warm))
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as cold:
                for name, folder in (("cold", cold), ("warm", warm)):
                    took, reached = _run(command, seed, Path(folder))
                    seconds[name].append(took)
            accuracies.append(reached)
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
    """Seconds of the process, and the accuracy that it has printed."""
    variables = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        filled = [part.replace("{seed}", str(seed)).replace("{folder}", folder) for part in command]
        start = time.perf_counter()
        done = subprocess.run(filled, env=variables, capture_output=True, text=True, check=False)
        took = time.perf_counter() - start
    if done.returncode:
        said = (done.stderr.splitlines() or ["nothing"])[-1]
        raise RunError(f"{' '.join(filled)} must end well; it says: {said}")
    printed = json.loads(done.stdout)
    return took, float(printed["accuracy"] if "accuracy" in printed else printed["test"]["accuracy"])


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
    places = list(range(len(rows)))
    for shift, name in ((0.2, "cold"), (-0.2, "warm")):
        seconds = [row[f"{name}_seconds"]["median"] for row in rows][::-1]
        axes.barh([place + shift for place in places], seconds, height=0.4, label=name)
    axes.set_yticks(places, names)
    axes.set(xlabel="seconds from the start of the process", title="Time to accuracy")
    axes.legend()
