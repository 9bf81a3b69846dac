"""`mnist-jax compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax._utils.text import percent
from mnist_jax.cli import console, options
from mnist_jax.cli.datasets import load_of
from mnist_jax.runs import loading, results

if TYPE_CHECKING:
    from mnist_jax.report.comparison import Member, Pair

HEADINGS = "run", "test accuracy", "95 % interval", "test loss", "parameters", "epochs", "seconds"


def compare(
    run_dirs: options.RunDirs,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The HTML page to write.")] = Path(
        "compare.html"
    ),
    data_dir: options.DataPath = None,
    platform: options.Platform = None,
    as_json: options.Json = False,
) -> None:
    """Compare runs: scores, settings, curves, and the images on which they disagree.

    Prints a table, and writes a self-contained HTML page.

    Example: mnist-jax compare runs/first runs/second
    """
    runs = loading.read_runs("compare", run_dirs)
    out = options.page(out)

    from mnist_jax._utils.process_setup import start_jax, start_matplotlib

    start_jax()
    start_matplotlib()
    from mnist_jax.report import comparison
    from mnist_jax.report.report import answers

    networks = [loading.load_params(folder, run) for folder, run in zip(run_dirs, runs, strict=True)]
    scores = [
        results.read(folder, params, run.config.model)
        for folder, params, run in zip(run_dirs, networks, runs, strict=True)
    ]
    data = load_of(runs[0], data_dir)
    members = []
    columns = zip(run_dirs, _names(run_dirs), runs, networks, scores, strict=True)
    for folder, name, run, params, result in columns:
        predictions = answers(run.config.model, params, data.test.images).argmax(axis=1)
        results.check_answers(folder, result, data.test.labels, predictions)
        members.append(comparison.Member(name, run, result, predictions))
    settings = comparison.differences(members)
    pairs = comparison.pairs(members, data.test.labels)
    write_atomic(out, comparison.page(members, data).encode())
    if as_json:
        rows = [_row(member, differing) for member, differing in zip(members, settings, strict=True)]
        console.print_json(
            {
                "dataset": data.name,
                "page": str(out),
                "runs": rows,
                "pairs": [pair._asdict() for pair in pairs],
            }
        )
    else:
        _show(members, settings, pairs)
        print(f"\n{out}; open it in a browser")  # noqa: T201


def _names(folders: list[Path]) -> list[str]:
    """Names runs printably: by directory name, by path where two names are equal, else numbered."""
    names = [folder.resolve().name for folder in folders]
    names = names if len(set(names)) == len(names) else list(map(str, folders))
    shown = ["".join(letter if letter.isprintable() else "?" for letter in name) for name in names]
    return shown if len(set(shown)) == len(shown) else [f"{n}: {name}" for n, name in enumerate(shown, 1)]


def _row(member: "Member", settings: dict[str, Any]) -> dict[str, Any]:
    low, high = member.results.interval
    return {
        "run": member.name,
        "preset": member.run.preset,
        "accuracy": member.results.accuracy,
        "interval": [low, high],
        "loss": member.results.loss,
        "n": member.results.n,
        "parameters": member.run.config.model.num_params,
        "epochs": len(member.results.history),
        "seconds": member.results.seconds,
        "settings": settings,
    }


def _show(members: "list[Member]", settings: list[dict[str, Any]], pairs: "list[Pair]") -> None:
    from rich.table import Table

    table = Table(*HEADINGS, box=None)
    for member, differing in zip(members, settings, strict=True):
        row = _row(member, differing)
        low, high = map(percent, row["interval"])
        numbers = f"{row['loss']:.4f}", f"{row['parameters']:,}", str(row["epochs"]), f"{row['seconds']:.1f}"
        table.add_row(member.name, percent(row["accuracy"]), f"{low} to {high}", *numbers)
    out = console.results()
    out.print(table)
    for member, differing in zip(members, settings, strict=True):
        text = ", ".join(f"{name} {value}" for name, value in differing.items())
        out.print(f"{member.name}: {text or 'identical settings'}")
    for pair in pairs:
        only = f"correct only in {pair.first}: {pair.first_only}, only in {pair.second}: {pair.second_only}"
        out.print(f"{only} (p = {pair.p_value:.2g})")
