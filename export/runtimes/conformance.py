"""Which runtimes give a run's network the answers that JAX gives: a table.

uv run python export/runtimes/conformance.py RUN_DIR...
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax import machine, runs
from mnist_jax.cli import options
from mnist_jax.cli.console import complain, finite, note, results
from mnist_jax.cli.process import settle, start_jax
from mnist_jax.errors import MnistJaxError, RunError, RuntimeUnavailableError
from mnist_jax.files import write_atomic
from mnist_jax.presets import PRESETS
from mnist_jax.settings import check_one_of
from mnist_onnx.environments import RUNTIMES
from mnist_onnx.graph import Input, Output
from mnist_onnx.quantize import PRECISIONS, Precision, quantize

# Every form in float32, and the one that most people take in fewer bits.
EXACT: list[tuple[Input, Output, None]] = [
    ("uint8", "probabilities", None),
    ("uint8", "logits", None),
    ("float32", "probabilities", None),
    ("float32", "logits", None),
]
SMALLER: list[tuple[Input, Output, Precision]] = [("uint8", "probabilities", p) for p in PRECISIONS]
COLUMNS = ("runtime", "version", "loads", "batches", "same answers", "largest difference", "s", "verdict")


def conformance(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Runs that `train` wrote.")],
    runtime: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="One to ask; may be repeated. (default: all)")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="P", help="float32, or of the smaller files; may be repeated. (default: all)"),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the table goes, as .md and .json.")
    ] = Path(),
    data_dir: options.DataDir = None,
) -> None:
    """Ask every runtime for all answers, to all forms of each run's file, and compare with JAX.

    Rows of an earlier table in DIR that are not asked for again stay in it.

    Ends with exit code 1 if one answers wrong where it answers in float32. One that can't be installed here
    is reported as not run.

    Example: uv run python export/runtimes/conformance.py runs/my-run --runtime opencv --runtime tract
    """
    names = tuple(dict.fromkeys(runtime or RUNTIMES))
    for name in names:
        check_one_of("runtime", name, tuple(RUNTIMES))
    for name in precision or ():
        check_one_of("precision", name, ("float32", *PRECISIONS))
    forms = [form for form in (*EXACT, *SMALLER) if precision is None or (form[2] or "float32") in precision]
    for folder in run_dirs:
        runs.read(folder)
    out.mkdir(parents=True, exist_ok=True)
    rows = {place(row): row for row in earlier(out / "conformance.json")}
    start_jax()
    asked = []
    for folder in run_dirs:
        asked += list(examine_run(folder, names, forms, data_dir))
        rows |= {place(row): row for row in asked}
        text = tables([rows[key] for key in sorted(rows, key=order)])
        write_atomic(out / "conformance.md", f"{text}\n".encode())
        data = json.dumps(list(rows.values()), indent=1, allow_nan=False)
        write_atomic(out / "conformance.json", f"{data}\n".encode())
    results().print(text)
    if any(row["ran"] and not row["passed"] for row in asked if row["precision"] == "float32"):
        raise typer.Exit(1)


def earlier(path: Path) -> list[dict[str, Any]]:
    """The rows of a table that is there already: those that are not asked for again stay in it.

    Raises:
        RunError: the file is not such a table.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_bytes())
        return rows if all(place(row) and row["measured"] for row in rows) else []
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, OSError):
        raise RunError(f"{path} must be a table that this program wrote; move it away") from None


def place(row: dict[str, Any]) -> tuple[str, ...]:
    """What a row is about."""
    return tuple(row[name] for name in ("runtime", "preset", "run", "input", "output", "precision"))


def order(key: tuple[str, ...]) -> tuple[int, int]:
    """Runtimes and presets as they are listed, whatever was asked first."""
    runtimes, presets = list(RUNTIMES), list(PRESETS)
    known = key[0] in runtimes, key[1] in presets
    return runtimes.index(key[0]) if known[0] else 99, presets.index(key[1]) if known[1] else 99


def examine_run(
    folder: Path,
    names: Iterable[str],
    forms: Iterable[tuple[Input, Output, Precision | None]],
    data_dir: Path | None,
) -> Iterator[dict[str, Any]]:
    """A row for each runtime and each of these forms of the run's file."""
    from mnist_jax.cli.experiment import export_run, load_for, load_params
    from mnist_onnx.questions import question
    from mnist_onnx.runtimes import examine

    run = runs.read(folder)
    params, data = load_params(folder, run), load_for(run, data_dir)
    measured = f"{time.strftime('%Y-%m-%d')}, {machine.processor()}; jax {machine.versions()['jax']}"
    with tempfile.TemporaryDirectory() as work:
        for input_, output, precision in forms:
            model = export_run(
                run, params, test_accuracy=None, classes=data.classes, input=input_, output=output
            )
            if precision is not None:
                model = quantize(model, precision, images=data.train.images[:1000])
            path = Path(work) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            asked = question(run.config.model, params, path.read_bytes(), data.test.images)
            form = {
                "preset": run.preset,
                "run": folder.name,
                "input": input_,
                "output": output,
                "precision": precision or "float32",
                "measured": measured,
            }
            for name in names:
                note(f"{folder}: {input_}, {output}, {precision or 'float32'} in {name}")
                try:
                    found = finite(examine(name, path, asked)._asdict())
                    yield {"runtime": name, "ran": True} | form | found
                except RuntimeUnavailableError as error:
                    yield {"runtime": name, "ran": False, "passed": False, "reason": str(error)} | form


def tables(rows: list[dict[str, Any]]) -> str:
    """What people read, in Markdown: float32 files, then those in fewer bits."""
    names = list(dict.fromkeys(row["runtime"] for row in rows))
    exact = [row for row in rows if row["precision"] == "float32"]
    parts = [
        table(COLUMNS, (summary(name, [row for row in exact if row["runtime"] == name]) for name in names)),
        legend(rows),
        table(
            ("runtime", *PRECISIONS),
            ((name, *(verdict(rows, name, precision) for precision in PRECISIONS)) for name in names),
        ),
        machines(rows),
    ]
    return "\n\n".join(parts)


def machines(rows: list[dict[str, Any]]) -> str:
    """What was measured on which processor, with its instruction sets: 8-bit answers may depend on them."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        found.setdefault(row["measured"], {})[row["precision"]] = None
    return " ".join(f"{', '.join(precisions)}: {where}." for where, precisions in found.items())


def table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    heading = list(columns)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *lines))


def summary(name: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """A line of the table: the worst of a runtime's rows."""
    ran = [row for row in rows if row["ran"]]
    if not ran:
        why = f"not run: {rows[0]['reason']}" if rows else "not asked"
        return (name, *[""] * (len(COLUMNS) - 2), why)
    worst = min(ran, key=lambda row: row["same_answers"] / row["n"])
    good = [row for row in ran if row["max_abs_difference"] is not None]
    failed = {f"{row['preset']}, {row['input']} to {row['output']}: {row['reason']}": row for row in ran}
    return (
        name,
        next((row["version"] for row in reversed(ran) if row["version"]), ""),
        share(row["loads"] for row in ran),
        share(row["dynamic_batch"] for row in ran),
        f"{worst['same_answers']:,} of {worst['n']:,}",
        f"{max(row['max_abs_difference'] for row in good):.1e}" if good else "",
        f"{max(row['seconds'] for row in good):.2f}" if good else "",
        "; ".join(reason for reason, row in failed.items() if not row["passed"]) or "equals JAX",
    )


def verdict(rows: list[dict[str, Any]], name: str, precision: str) -> str:
    """How a runtime does with files in fewer bits: the worst of its rows, in a few words."""
    found = [row for row in rows if row["runtime"] == name and row["precision"] == precision]
    if not found:
        return "not asked"
    if not all(row["ran"] for row in found):
        return "not run"
    answered = [row for row in found if row["version"]]
    if not answered:
        return "refuses"
    worst = min(answered, key=lambda row: row["same_answers"] / row["n"])
    right = f"{worst['same_answers']:,} of {worst['n']:,}"
    if not all(row["passed"] for row in answered):
        right = f"**wrong**: {right}"
    refused = len(found) - len(answered)
    return f"{right}; refuses {refused} of {len(found)} files" if refused else right


def share(answers: Iterable[bool]) -> str:
    """`28 of 28`."""
    found = list(answers)
    return f"{sum(found)} of {len(found)}"


def legend(rows: list[dict[str, Any]]) -> str:
    """What the columns are."""
    presets = ", ".join(dict.fromkeys(row["preset"] for row in rows))
    return (
        f"Of {presets}, each from uint8 and from float32 pixels, to probabilities and to logits: the files "
        "that were loaded; those that took batches of 1, 7 and 1,000 in one session; then the worst: test "
        "images with JAX's answer, the largest difference on them, seconds for 10,000 images. The verdict is "
        "on noise too.\n\n"
        "The same networks in fewer bits, from uint8 to probabilities: test images with the answer that JAX "
        "gives with the rounded weights, or, for int8-static, with the weights as they are (up to 1 % may "
        "differ there)."
    )


if __name__ == "__main__":
    settle()
    app = typer.Typer(add_completion=False)
    app.command()(conformance)
    try:
        sys.exit(app(standalone_mode=False))
    except (MnistJaxError, OSError, typer.TyperException) as error:
        complain(error.format_message() if isinstance(error, typer.TyperException) else str(error))
        sys.exit(2)
