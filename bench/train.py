"""`bench train`: how fast networks train, by preset and batch size, on every device; and the floor."""

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench import report
from bench.clock import interleaved

if TYPE_CHECKING:
    import jax

    from mnist_jax.types import Examples

BATCH_SIZES = (32, 128, 1024, 8192)
CLOCK = (
    "One epoch: the clock starts when its compiled program is called and stops when the new state is ready; "
    "compiling, and one epoch before, are not on it. Median, fastest and slowest."
)


def train(
    preset_names: Annotated[
        list[str] | None, typer.Option("--preset", metavar="P", help="May be repeated. (default: all)")
    ] = None,
    batch_sizes: Annotated[
        list[int] | None, typer.Option("--batch-size", metavar="N", help="May be repeated.")
    ] = None,
    dataset: Annotated[str, typer.Option(metavar="D", help="What to train on.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it is.")] = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Epochs that are timed.")] = 5,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write JSON, Markdown and a plot.")] = None,
) -> None:
    """Images per second by preset and batch size on each device that JAX sees, and the ratio to the floor.

    Example: python -m bench train --preset mlp-100 --batch-size 32
    """
    import jax

    from bench.floor import floor, peak_flops
    from mnist_jax import PRESETS, load, preset
    from mnist_jax.settings import check_whole

    check_whole("repeats", repeats)
    specs = {name: preset(name).config.model for name in preset_names or PRESETS}
    sizes = [check_whole("batch size", size) for size in batch_sizes or BATCH_SIZES]
    data = load(dataset, data_dir, validation_fraction=0.0).train
    result = report.new("train", CLOCK) | {"dataset": dataset, "examples": len(data.labels)}
    for device in jax.devices():
        with jax.default_device(device):
            peak = peak_flops()
            for name, spec in specs.items():
                for size in (size for size in sizes if size <= len(data.labels)):
                    least = floor(spec, size) if device.platform == "cpu" else None
                    row = {"preset": name, "batch_size": size, "dtype": "float32", "device": name_of(device)}
                    result["rows"].append(row | _epoch(spec, size, data, repeats, device, peak, least))
    report.finish(result, COLUMNS, _plot, out)


def name_of(device: "jax.Device") -> str:
    """Such as `cpu:0`."""
    return f"{device.platform}:{device.id}"


def _epoch(
    spec: Any,
    batch_size: int,
    data: "Examples",
    repeats: int,
    device: "jax.Device",
    peak: float,
    least: dict[str, Any] | None,
) -> dict[str, Any]:
    """Trains for one epoch after the other, and times them."""
    import jax

    from bench.floor import flops
    from mnist_jax import Config, Hyper, init_state, train_epoch

    config = Config(spec, batch_size=batch_size)
    hyper = jax.tree.map(jax.numpy.float32, Hyper())
    examples = jax.device_put(data, device)
    state = init_state(config, jax.random.key(0))
    start = time.perf_counter()
    program = jax.jit(functools.partial(train_epoch, config), donate_argnums=1)
    run = program.lower(hyper, state, examples).compile()
    compile_seconds = time.perf_counter() - start

    def epoch() -> Any:
        nonlocal state
        state, metrics = run(hyper, state, examples)
        return state.params, metrics

    timing = interleaved({"epoch": epoch}, repeats)["epoch"]
    count = len(data.labels)
    steps = -(-count // batch_size)
    achieved = flops(spec, batch_size) * (count / batch_size) / timing.median
    return {
        "epoch_seconds": timing._asdict(),
        "compile_seconds": compile_seconds,
        "images_per_second": count / timing.median,
        "step_microseconds": 1e6 * timing.median / steps,
        "flops": achieved,
        "share_of_peak": achieved / peak,
        "floor": least,
        "times_floor": None if least is None else timing.median / (steps * least["seconds"]),
    }


COLUMNS = (
    ("preset", lambda row: row["preset"]),
    ("batch", lambda row: str(row["batch_size"])),
    ("device", lambda row: row["device"]),
    ("images/s", lambda row: f"{row['images_per_second']:,.0f}"),
    (
        "ms/epoch",
        lambda row: "{median:.0f} ({low:.0f} to {high:.0f})".format(
            **{name: 1e3 * value for name, value in row["epoch_seconds"].items()}
        ),
    ),
    ("us/step", lambda row: f"{row['step_microseconds']:.0f}"),
    ("of peak", lambda row: f"{row['share_of_peak']:.1%}"),
    ("x floor", lambda row: "" if row["times_floor"] is None else f"{row['times_floor']:.2f}"),
    ("compiling, s", lambda row: f"{row['compile_seconds']:.1f}"),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    for name, device in dict.fromkeys((row["preset"], row["device"]) for row in rows):
        own = [row for row in rows if (row["preset"], row["device"]) == (name, device)]
        speeds = [row["images_per_second"] for row in own]
        axes.plot([row["batch_size"] for row in own], speeds, "o-", label=f"{name}, {device}")
    sizes = sorted({row["batch_size"] for row in rows})
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images per second", title="Training")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize="small")
