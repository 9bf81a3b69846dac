"""`bench compare`: two results of one benchmark, row by row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax.errors import RunError

# What a row is a row of.
KEYS = ("preset", "peer", "program", "batch_size", "dtype", "networks", "processes")
SAMPLES = 10_000  # of the bootstrap


def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="A result.", show_default=False)],
    second: Annotated[
        Path, typer.Argument(metavar="B.json", help="Another, of the same benchmark.", show_default=False)
    ],
) -> None:
    """How many times as long as B's rows A's take, with a 95 % interval, and in what the two differ.

    Example: mnist-jax bench compare before/throughput.json after/throughput.json
    """
    from rich.console import Console
    from rich.table import Table

    a, b = read(first), read(second)
    if a["bench"] != b["bench"]:
        raise RunError(f"both must be results of one benchmark; got {a['bench']} and {b['bench']}")
    rows, alone = match(a, b)
    if not rows:
        raise RunError(f"{first} and {second} must have a row in common; they have none")
    table = Table("row", "A, s", "B, s", "A / B", box=None)
    for row in rows:
        interval = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        table.add_row(row["row"], f"{row['a']:.4g}", f"{row['b']:.4g}", interval)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for line in differences(a, b):
        console.print(f"differs: {line}")
    if alone:
        console.print(f"in one of them only: {'; '.join(alone)}")
    print(json.dumps({"bench": a["bench"], "rows": rows}))  # noqa: T201


def read(path: Path) -> dict[str, Any]:
    """Reads a result, and of its rows those that have times.

    Raises:
        RunError: it cannot be read, or is none.
    """
    try:
        result = json.loads(path.read_text())
        rows = [row for row in result["rows"] if label(row) and seconds(row)]
        if not rows or not isinstance(result["bench"], str):
            raise ValueError("it has no rows")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error) or type(error).__name__
        raise RunError(f"{path} must be the JSON of a benchmark with times; {reason}") from None
    return {**result, "rows": rows}


def label(row: dict[str, Any]) -> str:
    """What a row is a row of, such as `mlp-100, 32, float32`."""
    device = row.get("device", "").partition(":")[2]  # `2` of `gpu:2`
    named = [f"device {device}"] if device not in ("", "0") else []
    return ", ".join([*(str(row[key]) for key in KEYS if key in row), *named])


def seconds(row: dict[str, Any]) -> dict[str, Any]:
    """The times of a row: the first of its fields that has a median; empty if none has."""
    found = (value for value in row.values() if isinstance(value, dict) and "median" in value)
    times: dict[str, Any] = next(found, {})
    return times


def match(a: dict[str, Any], b: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Matches the rows of two results.

    Returns:
        For each row of both: its label, the medians in seconds, their ratio and its 95 % interval; and the
        labels of rows that only one of them has.
    """
    ours, theirs = ({label(row): seconds(row) for row in result["rows"]} for result in (a, b))
    rows = []
    for name in ours:
        if name in theirs:
            low, high = interval(ours[name], theirs[name])
            medians = ours[name]["median"], theirs[name]["median"]
            row = {"row": name, "a": medians[0], "b": medians[1], "ratio": medians[0] / medians[1]}
            rows.append(row | {"low": low, "high": high})
    return rows, sorted(set(ours) ^ set(theirs))


def interval(a: dict[str, Any], b: dict[str, Any]) -> tuple[float, float]:
    """The 95 % interval of the ratio of two medians, by the bootstrap (Efron 1979).

    Without samples, as older results are, it is what the fastest and slowest runs allow.
    """
    import numpy as np

    if not (a.get("samples") and b.get("samples")):
        return a["low"] / b["high"], a["high"] / b["low"]
    random = np.random.default_rng(0)
    medians = [
        np.median(random.choice(times["samples"], (SAMPLES, len(times["samples"]))), axis=1)
        for times in (a, b)
    ]
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    return float(low), float(high)


def differences(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    """Yields in what two results differ beside their figures: device, versions, commit, load, settings."""
    for ours, theirs in ((a, b), (a.get("versions", {}), b.get("versions", {}))):
        for name in sorted((set(ours) | set(theirs)) - {"rows", "clock", "versions", "schema"}):
            if ours.get(name) != theirs.get(name):
                yield f"{name}: {ours.get(name)} and {theirs.get(name)}"
