"""`bench scale`: several devices' operations, processes of this machine, and what both predict."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench import options, output
from bench.scaling import model
from mnist_jax.errors import RunError

PRESETS = ("mlp-100", "lenet-5", "mlp-1024-512-deformed")
BATCH_SIZES = tuple(2**power for power in range(4, 11))
SHARED_SIZES = (16, 64, 256, 1024)  # of processes
PROGRAM_SIZES = (64, 1024)  # of programs that are described
DEVICES = (1, 2, 4, 8)
PROCESSES = (1, 2, 4)
SIMULATED, MEASURED = "simulated devices", "processes of this machine, measured"
LINKS, COMPUTED = "links", "several devices, computed"
CLOCK = (
    "Processes: a step of an epoch whose batches all processes share out, from the start signal until the "
    "last has its new state; all rows take turns; median, fastest and slowest. Computed: one device's "
    "measured step for its share of the batch, plus an all-reduce by the link's latency and bandwidth; for "
    "processes, each by itself at the same time, plus the all-reduce of their measured link. Several devices "
    f"pay where they are at least {model.LEAST} times as fast as one. Weak scaling: one process's step for "
    "its share, over the step of all. Simulated devices: the compiled program of one step on the CPU, "
    "without times."
)


def scale(
    preset_names: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="P", help="Preset; may be repeated. (default: three)"),
    ] = None,
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option("--batch-size", metavar="N", help="Batch size, over all devices; may be repeated."),
    ] = None,
    devices: Annotated[
        list[int] | None, typer.Option("--devices", metavar="N", help="Simulated devices; may be repeated.")
    ] = None,
    processes: Annotated[
        list[int] | None,
        typer.Option("--processes", metavar="N", help="Processes on this machine; may be repeated."),
    ] = None,
    links: Annotated[
        list[str] | None,
        typer.Option("--link", metavar="NAME:US:GB/S", help="Another link to compute for; may be repeated."),
    ] = None,
    steps_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Result of `bench throughput` on a device to compute for; may be repeated."
        ),
    ] = None,
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Epochs to time.")] = 5,
    out: options.Out = None,
) -> None:
    """At which batch size a second device pays: operations by device, processes of this machine, fast links.

    Example: mnist-jax bench scale --preset mlp-100 --link "mine:20:25"
    """
    from bench.scaling.measure import measure
    from bench.scaling.programs import describe
    from mnist_jax import load, preset
    from mnist_jax.config.validation import check_positive_int

    check_positive_int("repeats", repeats)
    parameters = {name: preset(name).network.num_params for name in preset_names or PRESETS}
    sizes = sorted({check_positive_int("batch size", size) for size in batch_sizes or BATCH_SIZES})
    shared, described = (sizes, sizes) if batch_sizes else (list(SHARED_SIZES), list(PROGRAM_SIZES))
    counts = sorted({1, *(check_positive_int("devices", number) for number in devices or DEVICES)})
    groups = sorted({1, *(check_positive_int("processes", number) for number in processes or PROCESSES)})
    assumed = [*model.LINKS, *map(model.parse_link, links or ())]
    other_machines = [_steps_of(path) for path in steps_from or ()]
    data = [dataset, *([] if data_dir is None else [str(data_dir)])]
    examples = len(load(*data, validation_fraction=0.0).train)
    result = output.new("scale", CLOCK) | {"dataset": dataset}
    jobs = [(name, size, count) for name in parameters for size in described for count in counts]
    result["rows"] += [{"kind": SIMULATED, **row} for row in describe(jobs)]
    here = measure(list(parameters), sizes, shared, groups, data, examples, repeats)
    result["rows"] += [{"kind": MEASURED, **row} for row in here.rows]
    result["rows"] += [{"kind": LINKS, **link._asdict(), "measured": True} for link in here.links.values()]
    result["rows"] += [{"kind": LINKS, **link._asdict(), "measured": False} for link in assumed]
    result["rows"] += [
        {"kind": COMPUTED, "device": device, **_computed(name, link, count, steps[name], parameters[name])}
        for device, steps in [("this machine's CPU", here.steps), *other_machines]
        for name in parameters
        if name in steps
        for link in assumed
        for count in counts
        if count > 1
    ]
    output.finish(result, COLUMNS, _plot, out)


def _steps_of(path: Path) -> tuple[str, dict[str, dict[int, float]]]:
    """The device of a result of `bench throughput`, and seconds of its steps by preset and batch size."""
    from bench.compare import read

    result = read(path)
    steps: dict[str, dict[int, float]] = {}
    for row in result["rows"]:
        if row.get("devices", 1) == 1 and row.get("dtype") == "float32":
            steps.setdefault(row["preset"], {})[row["batch_size"]] = 1e-6 * row["step_microseconds"]
    if not any(size // 2 in of_preset for of_preset in steps.values() for size in of_preset):
        raise RunError(f"{path} must have the float32 steps of a batch size and of its half; it has none")
    return str(result["device"]), steps


def _computed(
    name: str, link: model.Link, count: int, steps: dict[int, float], parameters: int
) -> dict[str, Any]:
    """What the model says of several devices with a link, by batch size."""
    speedups = model.speedups(steps, count, link, 4 * parameters)
    return {
        "preset": name,
        "devices": count,
        "link": link.name,
        "all_reduce_seconds": model.all_reduce(link, count, 4 * parameters),
        "speedups": speedups,
        "pays_from": model.pays_from(speedups),
    }


def _batch_size(row: dict[str, Any]) -> str:
    """From where on it pays; if everywhere or nowhere, how far was computed."""
    if row["pays_from"] is not None:
        return f"{row['pays_from']:,}{' or less' if row['pays_from'] == min(row['speedups']) else ''}"
    return f"not up to {max(row['speedups']):,}" if row["speedups"] else "not computed"


def _sent(collective: dict[str, Any]) -> str:
    return f"{collective['kind']}, {collective['arrays']} arrays, {collective['size'] / 1e6:.2f} MB"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


COLUMNS = {
    SIMULATED: (
        ("preset", lambda row: row["preset"]),
        ("batch", lambda row: f"{row['batch_size']:,}"),
        ("devices", lambda row: str(row["devices"])),
        ("MFLOP each", lambda row: f"{row['flops'] / 1e6:,.1f}"),
        ("MB read and written each", lambda row: f"{row['bytes_accessed'] / 1e6:,.1f}"),
        ("MB of memory each", lambda row: f"{row['memory_bytes'] / 1e6:,.1f}"),
        ("sent", lambda row: "; ".join(map(_sent, row["collectives"])) or "nothing"),
    ),
    MEASURED: (
        ("preset", lambda row: row["preset"]),
        ("batch", lambda row: f"{row['batch_size']:,}"),
        ("processes", lambda row: str(row["processes"])),
        (
            "ms/step",
            lambda row: "{:.2f} ({:.2f} to {:.2f})".format(
                *(1e3 * row["step_seconds"][name] for name in ("median", "low", "high"))
            ),
        ),
        (
            "computed, ms",
            lambda row: f"{1e3 * row['computed_seconds']:.2f}" if "computed_seconds" in row else "",
        ),
        ("measured / computed", lambda row: _times(row.get("measured_over_computed"))),
        ("x one process", lambda row: _times(row.get("speedup"))),
        ("weak scaling", lambda row: _times(row.get("weak_efficiency"))),
    ),
    LINKS: (
        ("link", lambda row: row["name"]),
        ("latency, us", lambda row: f"{1e6 * row['latency']:,.0f}"),
        ("GB/s", lambda row: f"{row['bandwidth'] / 1e9:,.2f}"),
        ("", lambda row: "measured" if row["measured"] else "assumed"),
    ),
    COMPUTED: (
        ("device", lambda row: row["device"]),
        ("preset", lambda row: row["preset"]),
        ("link", lambda row: row["link"]),
        ("devices", lambda row: str(row["devices"])),
        ("all-reduce, us", lambda row: f"{1e6 * row['all_reduce_seconds']:,.0f}"),
        ("pays from batch size", _batch_size),
        ("x one device, at most", lambda row: _times(max(row["speedups"].values(), default=None))),
    ),
}


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Two devices against one, by batch size: a panel for each device and network."""
    figure = axes.figure
    axes.remove()
    computed = [row for row in rows if row["kind"] == COMPUTED and row["devices"] == 2 and row["speedups"]]
    measured = [row for row in rows if row["kind"] == MEASURED and row["processes"] == 2]
    if not computed:
        return
    devices, presets = (list(dict.fromkeys(row[key] for row in computed)) for key in ("device", "preset"))
    figure.set_size_inches(3.2 * len(presets) + 1, 3.4 * len(devices) + 1)
    grid = figure.subplots(len(devices), len(presets), sharey=True, squeeze=False)
    for line, device in zip(grid, devices, strict=True):
        for panel, name in zip(line, presets, strict=True):
            panel.axhline(1, color="gray", linewidth=1)
            for row in computed:
                if (row["device"], row["preset"]) == (device, name):
                    panel.plot(
                        *zip(*row["speedups"].items(), strict=True), "--", label=f"{row['link']}, computed"
                    )
            if device == devices[0]:
                own = [row for row in measured if row["preset"] == name and row["speedup"]]
                points = ([row[key] for row in own] for key in ("batch_size", "speedup"))
                panel.plot(*points, "ko", markersize=4, label="2 processes here, measured")
            panel.set(xscale="log", title=name, xlabel="batch size")
            panel.set_xticks(sizes := list(computed[0]["speedups"])[::2], [str(size) for size in sizes])
            panel.set_xticks([], minor=True)
            panel.grid(alpha=0.3)
        line[0].set_ylabel(f"two devices, x one\n{device}", fontsize="small")
    grid[0][0].set_ylim(0, None)
    lines, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=3, fontsize="small", frameon=False)
