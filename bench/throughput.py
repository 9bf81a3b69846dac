"""`bench throughput`: training speed by preset and batch size on every device, relative to a lower bound."""

import functools
import time
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from bench import options, output
from bench.timing import interleaved
from bench.workers import TORCH, Baseline, environment
from mnist_jax.config.networks import Dtype, Network

if TYPE_CHECKING:
    import jax

    from mnist_jax import Config
    from mnist_jax.data.examples import Examples

DTYPES = get_args(Dtype)
BATCH_SIZES = (32, 128, 1024, 8192)
CLOCK = (
    "Time of one epoch, from the call of its compiled program until the new state is ready; compilation "
    "and one warm-up epoch are excluded. Median, fastest and slowest."
)


def throughput(
    preset_names: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="P", help="Preset; may be repeated. (default: all)"),
    ] = None,
    batch_sizes: Annotated[
        list[int] | None, typer.Option("--batch-size", metavar="N", help="Batch size; may be repeated.")
    ] = None,
    dtypes: Annotated[
        list[str] | None,
        typer.Option(
            "--dtype", metavar="T", help="Dtype of the layers, float32 or bfloat16; may be repeated."
        ),
    ] = None,
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Epochs to time.")] = 5,
    environments: options.Environments = options.ENVIRONMENTS,
    python: Annotated[
        str | None,
        typer.Option(metavar="EXE", help="Python to install PyTorch for, to include it in the lower bound."),
    ] = None,
    out: options.Out = None,
) -> None:
    """Images per second by preset and batch size on each device, and the ratio to a lower bound.

    Example: python -m bench throughput --preset mlp-100 --batch-size 32
    """
    import jax

    from bench.roofline import floor, peak_flops
    from mnist_jax import PRESETS, Config, load, preset
    from mnist_jax.config.validation import check_choice, check_positive_int

    check_positive_int("repeats", repeats)
    for dtype in dtypes or ():
        check_choice("dtype", dtype, DTYPES)
    torch_python = None if python is None else environment(Baseline("", TORCH), environments, python)
    specs = {name: preset(name).network for name in preset_names or PRESETS}
    sizes = [check_positive_int("batch size", size) for size in batch_sizes or BATCH_SIZES]
    data = load(dataset, data_dir, validation_fraction=0.0).train
    result = output.new("throughput", CLOCK) | {"dataset": dataset, "examples": len(data.labels)}
    for device in jax.devices():
        with jax.default_device(device):
            peaks = {dtype: peak_flops(dtype) for dtype in dtypes or DTYPES}
            for name, spec in specs.items():
                for size in (size for size in sizes if size <= len(data.labels)):
                    bound = floor(spec, size, torch_python) if device.platform == "cpu" else None
                    for dtype in dtypes or DTYPES:
                        row = {"preset": name, "batch_size": size, "dtype": dtype, "device": name_of(device)}
                        config = Config(spec, batch_size=size, dtype=cast(Dtype, dtype))
                        figures = _epoch(config, data, repeats, device, peaks[dtype], bound)
                        result["rows"].append(row | figures)
    output.finish(result, COLUMNS, _plot, out)


def name_of(device: "jax.Device") -> str:
    """The name of a device, such as `cpu:0`."""
    return f"{device.platform}:{device.id}"


def _epoch(
    config: "Config",
    data: "Examples",
    repeats: int,
    device: "jax.Device",
    peak: float,
    bound: dict[str, Any] | None,
) -> dict[str, Any]:
    """Times epochs of training and computes the figures of a row."""
    import jax

    from bench.roofline import flops
    from mnist_jax import HyperParams, init_state, train_epoch

    spec, batch_size = config.model, config.batch_size
    hyperparams = jax.tree.map(jax.numpy.float32, HyperParams())
    examples = jax.device_put(data, device)
    state = init_state(config, jax.random.key(0))
    start = time.perf_counter()
    program = jax.jit(functools.partial(train_epoch, config), donate_argnums=1)
    run = program.lower(hyperparams, state, examples).compile()
    compile_seconds = time.perf_counter() - start

    def epoch() -> Any:
        nonlocal state
        state, metrics = run(hyperparams, state, examples)
        return state.params, metrics

    timing = interleaved({"epoch": epoch}, repeats)["epoch"]
    count = len(data.labels)
    steps = -(-count // batch_size)
    achieved = flops(cast(Network, spec), batch_size) * (count / batch_size) / timing.median
    return {
        "epoch_seconds": timing._asdict(),
        "compile_seconds": compile_seconds,
        "images_per_second": count / timing.median,
        "step_microseconds": 1e6 * timing.median / steps,
        "flops": achieved,
        "share_of_peak": achieved / peak,
        "floor": bound,
        "times_floor": None if bound is None else timing.median / (steps * bound["seconds"]),
    }


COLUMNS = (
    ("preset", lambda row: row["preset"]),
    ("batch", lambda row: str(row["batch_size"])),
    ("dtype", lambda row: row["dtype"]),
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
    ("x lower bound", lambda row: "" if row["times_floor"] is None else f"{row['times_floor']:.2f}"),
    ("compiling, s", lambda row: f"{row['compile_seconds']:.1f}"),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    labels = [f"{row['preset']}, {row['dtype']}, {row['device']}" for row in rows]
    for label in dict.fromkeys(labels):
        own = [row for row, its in zip(rows, labels, strict=True) if its == label]
        speeds = [row["images_per_second"] for row in own]
        axes.plot([row["batch_size"] for row in own], speeds, "o-", label=label)
    sizes = sorted({row["batch_size"] for row in rows})
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images per second", title="Training")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize="small")
