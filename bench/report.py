"""What a benchmark leaves: a table for people, a plot, and one line of JSON for programs, the last of all."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import machine

SCHEMA = 1
ROOT = Path(__file__).parents[1]


def new(bench: str, clock: str) -> dict[str, Any]:
    """A result with all that a figure must be read with; `clock` says in words what is timed."""
    return {
        "schema": SCHEMA,
        "bench": bench,
        "clock": clock,
        "date": time.strftime("%Y-%m-%d"),
        "device": machine.device(),
        "driver": _driver(),
        "load": round(os.getloadavg()[0], 2),
        "versions": machine.versions(),
        "commit": _commit(),
        "rows": [],
    }


def finish(
    result: dict[str, Any],
    columns: Sequence[tuple[str, Callable[[dict[str, Any]], str]]],
    plot: Callable[[Any, list[dict[str, Any]]], None],
    out: Path | None,
    stem: str | None = None,
) -> None:
    """Prints the table and the line of JSON; with `out`, writes `STEM.json`, `.md` and `.png` there."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*(name for name, _ in columns), box=None)
    for row in result["rows"]:
        table.add_row(*(text(row) for _, text in columns))
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(caption(result))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        base = out / (stem or result["bench"])
        base.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
        base.with_suffix(".md").write_text(_markdown(result, columns))
        _plot(base.with_suffix(".png"), result, plot)
    print(json.dumps(result))  # noqa: T201


def caption(result: dict[str, Any]) -> str:
    """What was timed, on what, with what."""
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"{result['clock']} {result['date']}, {result['device']}; {packages}."


def _markdown(result: dict[str, Any], columns: Sequence[tuple[str, Callable[[dict[str, Any]], str]]]) -> str:
    lines = [[name for name, _ in columns], ["---"] * len(columns)]
    lines += [[text(row) for _, text in columns] for row in result["rows"]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{caption(result)}\n"


def _plot(path: Path, result: dict[str, Any], plot: Callable[[Any, list[dict[str, Any]]], None]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    plot(axes, result["rows"])
    axes.grid(alpha=0.3)
    figure.supxlabel(f"{result['device']}, {result['date']}", fontsize="small", color="gray")
    figure.savefig(path, dpi=120)


def _commit() -> str:
    """The commit that was measured, with a mark where other files than results differ from it; or empty."""

    def git(*words: str) -> str:
        command = ["git", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", ".", ":!bench/results")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def _driver() -> str:
    """What JAX drives the device with."""
    import jax

    return str(jax.devices()[0].client.platform_version).splitlines()[0]
