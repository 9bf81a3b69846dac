"""`bench conformance`: which runtimes compute the same as JAX, as a table.

uv run python -m bench conformance RUN_DIR...
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import options
from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax._utils.process_setup import start_jax
from mnist_jax._utils.text import finite, markdown_table
from mnist_jax.config.presets import PRESETS
from mnist_jax.config.validation import check_choice
from mnist_jax.errors import RunError, RuntimeUnavailableError
from mnist_jax.runs import directory, provenance
from mnist_onnx.export import Input, Output
from mnist_onnx.quantize import PRECISIONS, Precision, quantize
from mnist_onnx.runtime_envs import RUNTIMES

# All export formats in float32, and the default format in smaller precisions.
EXACT: list[tuple[Input, Output, None]] = [
    ("uint8", "probabilities", None),
    ("uint8", "logits", None),
    ("float32", "probabilities", None),
    ("float32", "logits", None),
]
SMALLER: list[tuple[Input, Output, Precision]] = [("uint8", "probabilities", p) for p in PRECISIONS]
COLUMNS = ("runtime", "version", "loads", "batches", "same answers", "largest difference", "s", "verdict")


def conformance(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Run directories.")],
    runtime: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Runtime; may be repeated. (default: all)")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="P", help="float32 or a smaller precision; may be repeated. (default: all)"),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory for the table, as .md and .json.")
    ] = Path(),
    data_dir: options.DataDir = None,
) -> None:
    """Run all export formats of each run's network in every runtime and compare the outputs with JAX.

    Updates the table in DIR; rows for other runtimes, runs or formats stay.

    Exits with code 1 if a runtime's outputs for a float32 file differ from JAX's. A runtime that cannot be
    installed on this machine is reported as not run.

    Example: mnist-jax bench conformance runs/my-run --runtime opencv --runtime tract
    """
    names = tuple(dict.fromkeys(runtime or RUNTIMES))
    for name in names:
        check_choice("runtime", name, tuple(RUNTIMES))
    for name in precision or ():
        check_choice("precision", name, ("float32", *PRECISIONS))
    forms = [form for form in (*EXACT, *SMALLER) if precision is None or (form[2] or "float32") in precision]
    for folder in run_dirs:
        directory.read(folder)
    out.mkdir(parents=True, exist_ok=True)
    rows = {key_of(row): row for row in earlier(out / "conformance.json")}
    start_jax()
    new_rows = []
    for folder in run_dirs:
        new_rows += list(check_run(folder, names, forms, data_dir))
        rows |= {key_of(row): row for row in new_rows}
        text = tables([rows[key] for key in sorted(rows, key=order)])
        write_atomic(out / "conformance.md", f"{text}\n".encode())
        data = json.dumps(list(rows.values()), indent=1, allow_nan=False)
        write_atomic(out / "conformance.json", f"{data}\n".encode())
    print(text)  # noqa: T201
    if any(row["ran"] and not row["passed"] for row in new_rows if row["precision"] == "float32"):
        raise typer.Exit(1)


def earlier(path: Path) -> list[dict[str, Any]]:
    """The rows of an existing table; an empty list if there is none.

    Raises:
        RunError: the file is not a table that this benchmark wrote.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_bytes())
        return rows if all(key_of(row) and row["measured"] for row in rows) else []
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, OSError):
        raise RunError(f"{path} must be a table that this benchmark wrote; move it away") from None


def key_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The key of a row: its runtime, network and export format."""
    return tuple(row[name] for name in ("runtime", "preset", "run", "input", "output", "precision"))


def order(key: tuple[str, ...]) -> tuple[int, int]:
    """The sort key of a row: runtimes and presets in the order of their lists."""
    runtimes, presets = list(RUNTIMES), list(PRESETS)
    known = key[0] in runtimes, key[1] in presets
    return runtimes.index(key[0]) if known[0] else 99, presets.index(key[1]) if known[1] else 99


def check_run(
    folder: Path,
    names: Iterable[str],
    forms: Iterable[tuple[Input, Output, Precision | None]],
    data_dir: Path | None,
) -> Iterator[dict[str, Any]]:
    """Yields one row per runtime and export format of the run's network."""
    from mnist_jax.runs.loading import load_dataset_of, load_params
    from mnist_jax.runs.pipeline import export_run
    from mnist_onnx.parity_cases import parity_case
    from mnist_onnx.runtime_check import check_runtime

    run = directory.read(folder)
    params, data = load_params(folder, run), load_dataset_of(run, data_dir)
    measured = f"{time.strftime('%Y-%m-%d')}, {provenance.processor()}; jax {provenance.versions()['jax']}"
    with tempfile.TemporaryDirectory() as work:
        for input_, output, precision in forms:
            model = export_run(
                run, params, test_accuracy=None, classes=data.classes, input=input_, output=output
            )
            if precision is not None:
                model = quantize(model, precision, images=data.train.images[:1000])
            path = Path(work) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            case = parity_case(run.config.model, params, path.read_bytes(), data.test.images)
            form = {
                "preset": run.preset,
                "run": folder.name,
                "input": input_,
                "output": output,
                "precision": precision or "float32",
                "measured": measured,
            }
            for name in names:
                print(  # noqa: T201
                    f"{folder}: {input_}, {output}, {precision or 'float32'} in {name}",
                    file=sys.stderr,
                    flush=True,
                )
                try:
                    result = finite(check_runtime(name, path, case)._asdict())
                    yield {"runtime": name, "ran": True} | form | result
                except RuntimeUnavailableError as error:
                    yield {"runtime": name, "ran": False, "passed": False, "reason": str(error)} | form


def tables(rows: list[dict[str, Any]]) -> str:
    """The tables in Markdown: float32 files, then smaller precisions."""
    names = list(dict.fromkeys(row["runtime"] for row in rows))
    exact = [row for row in rows if row["precision"] == "float32"]
    parts = [
        markdown_table(
            COLUMNS, (summary(name, [row for row in exact if row["runtime"] == name]) for name in names)
        ),
        legend(rows),
        markdown_table(
            ("runtime", *PRECISIONS),
            ((name, *(verdict(rows, name, precision) for precision in PRECISIONS)) for name in names),
        ),
        machines(rows),
    ]
    return "\n\n".join(part.rstrip() for part in parts)


def machines(rows: list[dict[str, Any]]) -> str:
    """The date and CPU of the rows; 8-bit outputs may depend on its instruction sets."""
    precisions_by_machine: dict[str, dict[str, None]] = {}
    for row in rows:
        precisions_by_machine.setdefault(row["measured"], {})[row["precision"]] = None
    return " ".join(
        f"{', '.join(precisions)}: {where}." for where, precisions in precisions_by_machine.items()
    )


def summary(name: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """A line of the first table: the worst results of a runtime."""
    ran = [row for row in rows if row["ran"]]
    if not ran:
        why = f"not run: {rows[0]['reason']}" if rows else "not tested"
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
    """A cell of the second table: the worst result of a runtime for a smaller precision."""
    selected = [row for row in rows if row["runtime"] == name and row["precision"] == precision]
    if not selected:
        return "not tested"
    if not all(row["ran"] for row in selected):
        return "not run"
    completed = [row for row in selected if row["version"]]
    if not completed:
        return "refuses"
    worst = min(completed, key=lambda row: row["same_answers"] / row["n"])
    right = f"{worst['same_answers']:,} of {worst['n']:,}"
    if not all(row["passed"] for row in completed):
        right = f"**wrong**: {right}"
    refused = len(selected) - len(completed)
    return f"{right}; refuses {refused} of {len(selected)} files" if refused else right


def share(values: Iterable[bool]) -> str:
    """How many values are true, such as `28 of 28`."""
    listed = list(values)
    return f"{sum(listed)} of {len(listed)}"


def legend(rows: list[dict[str, Any]]) -> str:
    """The explanation of the columns."""
    presets = ", ".join(dict.fromkeys(row["preset"] for row in rows))
    return (
        f"Networks: {presets}, each with uint8 and float32 pixels, and with probabilities and logits as "
        "outputs. Columns: files that load; files that run batches of 1, 7 and 1,000 in one session; then "
        "the worst over these files of the number of test images with JAX's predicted class, the largest "
        "difference on test images, and the seconds for 10,000 images. The verdict includes inputs of "
        "noise.\n\n"
        "The same networks in smaller precisions, from uint8 to probabilities: test images with the class "
        "that JAX predicts with the rounded weights, or, for int8-static, with the original weights (where "
        "up to 1 % may differ)."
    )
