"""`mnist-jax compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax import results
from mnist_jax.cli import console, experiment, options
from mnist_jax.files import write_atomic

if TYPE_CHECKING:
    from mnist_jax.comparison import Member, Pair

HEADINGS = "run", "test accuracy", "95 % interval", "test loss", "parameters", "epochs", "seconds"


def compare(
    run_dirs: options.RunDirs,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Where the page goes.")] = Path(
        "compare.html"
    ),
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Put runs side by side: their scores and settings, their curves, the images on which they disagree.

    Prints a table, and writes a page that needs nothing else.

    Example: mnist-jax compare runs/first runs/second
    """
    asked = experiment.read_together("compare", run_dirs)
    out = options.page(out)

    from mnist_jax.cli.process import start_jax, start_matplotlib

    start_jax()
    start_matplotlib()
    from mnist_jax import comparison
    from mnist_jax.report import answers

    networks = [experiment.load_params(folder, run) for folder, run in zip(run_dirs, asked, strict=True)]
    found = [results.read(folder, params) for folder, params in zip(run_dirs, networks, strict=True)]
    data = experiment.load_for(asked[0], data_dir)
    members = []
    each = zip(run_dirs, _names(run_dirs), asked, networks, found, strict=True)
    for folder, name, run, params, result in each:
        given = answers(run.config.model, params, data.test.images).argmax(axis=1)
        results.check_answers(folder, result, data.test.labels, given)
        members.append(comparison.Member(name, run, result, given))
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
    """What runs are called, as far as that can be shown: by folder, or by path where two are alike."""
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
        "parameters": member.run.config.model.parameters,
        "epochs": len(member.results.history),
        "seconds": member.results.seconds,
        "settings": settings,
    }


def _show(members: "list[Member]", settings: list[dict[str, Any]], pairs: "list[Pair]") -> None:
    from rich.table import Table

    table = Table(*HEADINGS, box=None)
    for member, differing in zip(members, settings, strict=True):
        row = _row(member, differing)
        low, high = map(console.percent, row["interval"])
        numbers = f"{row['loss']:.4f}", f"{row['parameters']:,}", str(row["epochs"]), f"{row['seconds']:.1f}"
        table.add_row(member.name, console.percent(row["accuracy"]), f"{low} to {high}", *numbers)
    out = console.results()
    out.print(table)
    for member, differing in zip(members, settings, strict=True):
        words = ", ".join(f"{name} {value}" for name, value in differing.items())
        out.print(f"{member.name}: {words or 'the same settings'}")
    for pair in pairs:
        alone = f"{pair.first} alone is right on {pair.first_only}, {pair.second} alone on {pair.second_only}"
        out.print(f"{alone} (p {pair.p_value:.2g})")
