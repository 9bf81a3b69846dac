"""Output of commands: results on stdout, messages and progress on stderr."""

import json
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mnist_jax._utils.text import percent, printable
from mnist_jax.config.training import MONITORS
from mnist_jax.runs.pipeline import stopped_early

if TYPE_CHECKING:
    from rich.console import Console

    from mnist_jax.runs.directory import Run
    from mnist_jax.runs.pipeline import RunOutcome


# The parts of a run's time, as `metrics.json` names them.
PARTS = ("loading", "compiling", "training", "scoring", "proving")


quiet = False  # in all but the first of several processes: `parallel.join` sets it


def print_error(message: str) -> None:
    """Prints an error as one line on stderr."""
    print(f"mnist-jax: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201


def print_status(message: str) -> None:
    """Prints a line for people on stderr."""
    if not quiet:
        # In one piece, so that no signal comes between a line and its end.
        print(f"{printable(message)}\n", end="", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Shows warnings of the library as the command's other lines."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print_status(f"WARNING: {message}")
        yield


def print_json(value: Any) -> None:
    """Prints a JSON result on stdout."""
    if not quiet:
        print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201


def results() -> "Console":
    """Returns the console for tables; it wraps lines on a terminal only."""
    from rich.console import Console

    return Console(
        highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200
    )


def score(scores: Mapping[str, Any]) -> str:
    """Formats accuracy, counts and loss in one line."""
    correct = round(scores["accuracy"] * scores["n"])
    return f"{percent(scores['accuracy'])} ({correct:,} of {scores['n']:,}), loss {scores['loss']:.4f}"


def proof(onnx: Mapping[str, Any]) -> str:
    """Formats a parity result in one line."""
    success = {"int8-static": "agrees with JAX"}.get(onnx.get("precision", ""), "equals JAX")
    verdict = success if onnx["passed"] else "DIFFERS FROM JAX"
    largest = onnx["max_abs_difference"]
    return (
        f"{verdict}: {onnx['n']:,} images and {onnx['noise']:,} of noise, "
        f"{onnx['disagreements']} mismatches, max difference "
        f"{'not a number' if largest is None else f'{largest:.1e}'}"
    )


def line(name: str, text: str) -> None:
    """Prints a named result on stdout."""
    if not quiet:
        print(f"{name:10} {printable(text)}")  # noqa: T201


def print_run(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Prints a run's results on stdout."""
    for name in ("train", "validation", "test"):
        if scores := metrics[name]:
            line(name, score(scores))
    if "best_epoch" in metrics:
        line("best", f"epoch {metrics['best_epoch']} of {metrics['epochs']}, whose network is kept")
    line("ONNX", proof(metrics["onnx"]))
    parts = ", ".join(f"{name} {metrics[f'seconds_{name}']:.1f}" for name in PARTS)
    line("time", f"{metrics['seconds']:.1f} s: {parts}; on {metrics['device']}")
    line("data", metrics["dataset"])
    line("run", str(folder))


def report_status(folder: Path, run: "Run", outcome: "RunOutcome") -> None:
    """Prints how to resume a stopped run.

    Raises:
        typer.Exit: with code 1, if the ONNX model failed its parity check.
    """
    done = len(outcome.history)
    if stopped_early(run, outcome.state, done):
        by = (run.monitor or MONITORS[0]).replace("_", " ")
        print_status(f"stopped early after {done} epochs, {run.early_stopping} since the best {by}")
    elif done < run.config.epochs:
        how = f"mnist-jax train --resume {shlex.quote(str(folder))}"
        print_status(f"stopped after {done} of {run.config.epochs} epochs; resume it: {how}")
    if outcome.parity is not None and not outcome.parity.passed:
        raise typer.Exit(1)
