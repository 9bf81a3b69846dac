"""The output of a benchmark: a table, a plot, and a last line of JSON for programs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_jax._utils.text import markdown_table
from mnist_jax.runs import provenance

SCHEMA = 1
BUSY = 0.25  # of a load of 1 per core: a machine that does something else
ROOT = Path(__file__).parents[1]

Columns = Sequence[tuple[str, Callable[[dict[str, Any]], str]]]


def new(bench: str, clock: str) -> dict[str, Any]:
    """Starts a result, with the device, versions and commit that its figures depend on.

    Args:
        bench: the name of the benchmark.
        clock: what is timed, in words, for the caption of the table.
    """
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "bench": bench,
        "clock": clock,
        "date": time.strftime("%Y-%m-%d"),
        "device": provenance.device(),
        "driver": _driver(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": provenance.versions(),
        "commit": _commit(),
        "rows": [],
    }
    warn_if_busy(result)
    return result


def status(message: str) -> None:
    """Prints what is done, on stderr."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def warn_if_busy(result: dict[str, Any]) -> None:
    """Says that the machine does something else, if it does."""
    if result["load"] is not None and result["load"] > BUSY * (os.cpu_count() or 1):
        status(f"WARNING: the machine is busy, with a load of {result['load']}: times will say little")


def finish(
    result: dict[str, Any],
    columns: Columns | Mapping[str, Columns],
    plot: Callable[[Any, list[dict[str, Any]]], None],
    out: Path | None,
    stem: str | None = None,
) -> None:
    """Prints the table and the line of JSON, and writes them with a plot.

    Args:
        result: the result, with its rows.
        columns: the header of each column, and a function from a row to its text; where rows have a `kind`,
            these for each kind.
        plot: draws the rows on Matplotlib axes.
        out: a directory for `STEM.json`, `.md` and `.png`; None to write nothing.
        stem: the stem of the file names. Default: the name of the benchmark.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    for title, header, rows in _tables(result, columns):
        table = Table(*header, box=None, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
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
    """The caption of the table: what was timed, the date, the device and the versions."""
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    load = "" if result.get("load") is None else f", load {result['load']} at the start"
    return f"{result['clock']} {result['date']}, {result['device']}{load}; {packages}."


def _tables(
    result: dict[str, Any], columns: Columns | Mapping[str, Columns]
) -> Iterator[tuple[str | None, list[str], list[list[str]]]]:
    """Yields title, header and texts of each table: one of all rows, or one for each kind of row."""
    by_kind = columns.items() if isinstance(columns, Mapping) else [(None, columns)]
    for kind, shown in by_kind:
        rows = [row for row in result["rows"] if kind in (None, row.get("kind"))]
        yield kind, [name for name, _ in shown], [[text(row) for _, text in shown] for row in rows]


def _markdown(result: dict[str, Any], columns: Columns | Mapping[str, Columns]) -> str:
    tables = [
        ("" if title is None else f"**{title.capitalize()}**\n\n") + markdown_table(header, rows)
        for title, header, rows in _tables(result, columns)
    ]
    return "\n".join(tables) + f"\n{caption(result)}\n"


def _plot(path: Path, result: dict[str, Any], plot: Callable[[Any, list[dict[str, Any]]], None]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    plot(axes, result["rows"])
    axes.grid(alpha=0.3)
    figure.supxlabel(f"{result['device']}, {result['date']}", fontsize="small", color="gray")
    figure.savefig(path, dpi=120)


def _commit() -> str:
    """The measured commit, with `-dirty` if files other than results differ from it; empty outside git."""

    def git(*words: str) -> str:
        command = ["git", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", ".", ":!bench/results")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def _driver() -> str:
    """The platform version of JAX's device, such as that of its driver."""
    import jax

    return str(jax.devices()[0].client.platform_version).splitlines()[0]
