"""`bench infer`: how long answers take: one image alone, and many in batches of a thousand."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import report
from bench.clock import summarize
from bench.programs import ANSWERERS, ENVIRONMENTS, Environments, Process, Python, chosen, started

BATCH = 1000
CALLS = 200
CLOCK = (
    "From images in memory, uint8, to probabilities in NumPy's memory, with the conversion to float32; "
    "each program in a process of its own, which has trained the network for an epoch; the programs take "
    f"turns. Latency: of one image alone, over all calls, {CALLS} a turn. Throughput: {BATCH:,} images in "
    "a call, the median of all. Those of an untimed first turn are left out."
)


def infer(
    names: Annotated[
        list[str] | None, typer.Option("--peer", metavar="P", help="May be repeated. (default: all)")
    ] = None,
    preset_name: Annotated[str, typer.Option("--preset", metavar="P", help="Which network.")] = "mlp-100",
    dataset: Annotated[str, typer.Option(metavar="D", help="What to answer.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it is.")] = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Turns that are timed.")] = 5,
    environments: Environments = ENVIRONMENTS,
    python: Python = sys.executable,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write JSON, Markdown and a plot.")] = None,
) -> None:
    """Latency of one image and throughput of many: JAX, ONNX Runtime, Keras and PyTorch.

    Example: python -m bench infer --peer "onnx runtime"
    """
    from mnist_jax import load, preset
    from mnist_jax.settings import check_whole

    check_whole("repeats", repeats)
    rivals = chosen(ANSWERERS, names)
    data = load(dataset, data_dir, validation_fraction=0.0)
    spec = preset(preset_name).config.model
    result = report.new("infer", CLOCK) | {"dataset": dataset, "preset": preset_name, "batch_size": BATCH}
    with started(rivals, environments, python, data, spec, 128) as processes:
        result["rows"] = _compare(processes, min(BATCH, len(data.test.labels)), repeats)
    report.finish(result, COLUMNS, _plot, out, f"infer-{preset_name}")


def _compare(processes: Mapping[str, Process], size: int, repeats: int) -> list[dict[str, Any]]:
    import numpy as np

    alone: dict[str, list[float]] = {name: [] for name in processes}
    together: dict[str, list[float]] = {name: [] for name in processes}
    for process in processes.values():
        process.ask("epoch")
    for turn in range(1 + repeats):
        for name, process in processes.items():
            time.sleep(0.3)  # for the threads of the last one to go to sleep
            one, many = (process.ask(f"[{n}, {calls}]")["seconds"] for n, calls in ((1, CALLS), (size, 10)))
            if turn:
                alone[name] += one
                together[name] += many
    rows = []
    for name, process in processes.items():
        p50, p95, p99 = np.percentile(alone[name], (50, 95, 99)).tolist()
        batch = summarize(together[name])
        rows.append(
            {
                "peer": name,
                "versions": process.versions,
                "latency_seconds": {"p50": p50, "p95": p95, "p99": p99, "calls": len(alone[name])},
                "batch_seconds": batch._asdict(),
                "images_per_second": size / batch.median,
                "test_accuracy": process.ask("score")["accuracy"],
            }
        )
    return rows


def _microseconds(row: dict[str, Any], name: str) -> str:
    return f"{1e6 * row['latency_seconds'][name]:,.0f}"


COLUMNS = (
    ("program", lambda row: row["peer"]),
    ("versions", lambda row: ", ".join(f"{name} {number}" for name, number in row["versions"].items())),
    ("one image, us: p50", lambda row: _microseconds(row, "p50")),
    ("p95", lambda row: _microseconds(row, "p95")),
    ("p99", lambda row: _microseconds(row, "p99")),
    ("images/s", lambda row: f"{row['images_per_second']:,.0f}"),
    ("test accuracy", lambda row: f"{row['test_accuracy']:.2%}"),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    names = [row["peer"] for row in rows][::-1]
    for name, marker in (("p50", "o"), ("p95", "|"), ("p99", "x")):
        axes.plot([1e6 * row["latency_seconds"][name] for row in rows][::-1], names, marker, label=name)
    axes.legend()
    axes.set(xscale="log", xlabel="microseconds for one image", title="One answer")
