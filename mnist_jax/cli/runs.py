"""`mnist-jax runs`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax._utils.text import percent
from mnist_jax.cli import console, options
from mnist_jax.config.validation import check_float
from mnist_jax.errors import MnistJaxError, RunError
from mnist_jax.runs import directory

HEADINGS = "run", "data", "network", "test accuracy", "epochs", "date"
DEEPEST = 4  # levels of folders


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the runs are.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """List the runs in a directory and below it: data, network, accuracy and date, the newest last.

    Example: mnist-jax runs runs
    """
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise RunError(f"{folder} must be a directory with runs; it {problem}")
    rows = [_row(path) for path in _run_dirs(folder)]
    rows.sort(key=lambda row: row["date"])
    if as_json:
        console.print_json(rows)
        return
    from rich.table import Table

    table = Table(*HEADINGS, box=None)
    for row in rows:
        accuracy = "-" if row["accuracy"] is None else percent(row["accuracy"])
        if not row["error"]:
            date = row["date"][:16].replace("T", " ")
            epochs = "-" if row["epochs"] is None else str(row["epochs"])
            table.add_row(row["run"], row["dataset"], row["network"], accuracy, epochs, date)
    console.results().print(table)
    for row in rows:
        if row["error"]:
            console.print_error(row["error"])
    if not rows:
        console.print_status(f"{folder} has no runs; `mnist-jax train` makes one")


def _run_dirs(folder: Path, level: int = 0) -> list[Path]:
    """The run directories in a folder, itself included."""
    found = [folder] if (folder / directory.CONFIG).is_file() else []
    if level < DEEPEST:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
                try:
                    found += _run_dirs(inner, level + 1)
                except PermissionError:
                    continue
    return found


def _row(path: Path) -> dict[str, Any]:
    """What is known of a run; for a damaged one, the error."""
    date = datetime.fromtimestamp((path / directory.CONFIG).stat().st_mtime).astimezone().isoformat()
    row: dict[str, Any] = {"run": str(path), "date": date, "error": "", "accuracy": None, "epochs": None}
    try:
        run = directory.read(path)
    except MnistJaxError as error:
        return row | {"error": str(error)}
    row |= {"dataset": run.dataset, "network": str(run.config.model), "preset": run.preset, "seed": run.seed}
    try:
        metrics = directory.read_json(path, directory.METRICS)
        accuracy = check_float("accuracy", metrics["test"]["accuracy"], 0, 1.01)
        epochs = metrics["epochs"] if type(metrics["epochs"]) is int else None
        return row | {"accuracy": accuracy, "epochs": epochs}
    except (MnistJaxError, KeyError, TypeError):  # not finished
        return row
