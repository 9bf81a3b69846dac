"""`bench latency`: the time of predictions, for single images and for batches of a thousand."""

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bench import options, output
from bench.timing import summarize
from bench.workers import PREDICTORS, Process, running, select

BATCH_SIZE = 1000
CALLS = 200
CLOCK = (
    "From uint8 images in memory to probabilities as a NumPy array, including the conversion to float32. "
    "Each program runs in a process of its own, in which it trains the network for one epoch; the "
    f"programs alternate. Latency: one image per call, over all calls, {CALLS} per turn. Throughput: "
    f"{BATCH_SIZE:,} images per call, median over all calls. The first turn is a warm-up and excluded."
)


def latency(
    names: options.Peers = None,
    preset_name: options.PresetName = "mlp-100",
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Turns to time.")] = 5,
    environments: options.Environments = options.ENVIRONMENTS,
    python: options.Python = sys.executable,
    out: options.Out = None,
) -> None:
    """Latency of one image and throughput of many: JAX, ONNX Runtime, Keras and PyTorch.

    Example: mnist-jax bench latency --peer "onnx runtime"
    """
    from mnist_jax import load, preset
    from mnist_jax.config.validation import check_positive_int

    check_positive_int("repeats", repeats)
    baselines = select(PREDICTORS, names)
    data = load(dataset, data_dir, validation_fraction=0.0)
    spec = preset(preset_name).network
    result = output.new("latency", CLOCK) | {
        "dataset": dataset,
        "preset": preset_name,
        "batch_size": BATCH_SIZE,
    }
    with running(baselines, environments, python, data, spec, 128) as processes:
        result["rows"] = _compare(processes, min(BATCH_SIZE, len(data.test.labels)), repeats)
    output.finish(result, COLUMNS, _plot, out, f"latency-{preset_name}")


def _compare(processes: Mapping[str, Process], size: int, repeats: int) -> list[dict[str, Any]]:
    import numpy as np

    single: dict[str, list[float]] = {name: [] for name in processes}
    batched: dict[str, list[float]] = {name: [] for name in processes}
    for process in processes.values():
        process.request("epoch")
    for turn in range(1 + repeats):
        for name, process in processes.items():
            time.sleep(0.3)  # until the threads of the previous program are idle
            one, many = (
                process.request(f"[{n}, {calls}]")["seconds"] for n, calls in ((1, CALLS), (size, 10))
            )
            if turn:
                single[name] += one
                batched[name] += many
    rows = []
    for name, process in processes.items():
        p50, p95, p99 = np.percentile(single[name], (50, 95, 99)).tolist()
        batch = summarize(batched[name])
        rows.append(
            {
                "peer": name,
                "versions": process.versions,
                "latency_seconds": {"p50": p50, "p95": p95, "p99": p99, "calls": len(single[name])},
                "batch_seconds": batch._asdict(),
                "images_per_second": size / batch.median,
                "test_accuracy": process.request("score")["accuracy"],
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
    axes.set(xscale="log", xlabel="microseconds for one image", title="Latency")
