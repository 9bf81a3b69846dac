"""`bench throughput`: training speed by preset and batch size on every device, relative to a lower bound."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from bench import options, output
from bench.devices import Devices, groups, mesh_of, name_of
from bench.timing import Timing, interleaved
from bench.workers import TORCH, Baseline, environment
from mnist_jax.config.networks import Dtype, Network

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from mnist_jax import Config
    from mnist_jax.data.examples import Examples

DTYPES = get_args(Dtype)
BATCH_SIZES = (32, 128, 1024, 8192)
CLOCK = (
    "Time of one epoch of the whole preset, its deformation included, from the call of its compiled program "
    "until the new state is ready; compilation and one warm-up epoch are excluded. All rows take turns, an "
    "epoch each. Median, fastest and slowest."
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
    device_counts: Devices = None,
    per_device: Annotated[
        bool, typer.Option("--per-device", help="Batch sizes are of each device: weak scaling.")
    ] = False,
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

    Example: mnist-jax bench throughput --preset mlp-100 --batch-size 32
    """
    import jax

    from bench.roofline import floor, peak_flops
    from mnist_jax import PRESETS, load, preset
    from mnist_jax.config.validation import check_choice, check_positive_int
    from mnist_jax.parallel.mesh import replicate

    check_positive_int("repeats", repeats)
    for dtype in dtypes or ():
        check_choice("dtype", dtype, DTYPES)
    torch_python = None if python is None else environment(Baseline("", TORCH), environments, python)
    recipes = {name: preset(name) for name in preset_names or PRESETS}
    sizes = [check_positive_int("batch size", size) for size in batch_sizes or BATCH_SIZES]
    data = load(dataset, data_dir, validation_fraction=0.0).train
    together = groups(device_counts)
    result = output.new("throughput", CLOCK) | {"dataset": dataset, "examples": len(data)}
    programs: dict[str, _Program] = {}
    for devices in together:
        with jax.default_device(devices[0]):
            peaks = {dtype: len(devices) * peak_flops(dtype) for dtype in dtypes or DTYPES}
            mesh = mesh_of(devices)
            examples = replicate(data, mesh)
            for name, recipe in recipes.items():
                for size in (size * (len(devices) if per_device else 1) for size in sizes):
                    if size > len(data):
                        continue
                    bounded = devices[0].platform == "cpu" and mesh is None
                    bound = floor(recipe.network, size, torch_python) if bounded else None
                    for dtype in dtypes or DTYPES:
                        row = {"preset": name, "batch_size": size, "dtype": dtype, "device": name_of(devices)}
                        row |= {"devices": len(devices)}
                        label = ", ".join(map(str, row.values()))
                        output.status(f"compiling {label}")
                        config = replace(recipe.config, batch_size=size, dtype=cast(Dtype, dtype))
                        programs[label] = _Program(
                            row, config, recipe.hyperparams, examples, mesh, peaks[dtype], bound
                        )
    timings = interleaved(programs, repeats, output.status)
    result["rows"] = [programs[label].figures(timing) for label, timing in timings.items()]
    _compare_devices(result["rows"], per_device)
    output.finish(result, COLUMNS, _plot, out)


def _compare_devices(rows: list[dict[str, Any]], per_device: bool) -> None:
    """Adds how many times as fast as one device several are, with the same batch size, in all or of each."""
    speeds = {
        (row["preset"], row["dtype"], row["batch_size"]): row["images_per_second"]
        for row in rows
        if row["devices"] == 1
    }
    for row in rows:
        size = row["batch_size"] // (row["devices"] if per_device else 1)
        one = speeds.get((row["preset"], row["dtype"], size))
        row["times_one_device"] = None if one is None else row["images_per_second"] / one


class _Program:
    """A compiled epoch of a row, with its state."""

    def __init__(
        self,
        row: dict[str, Any],
        config: "Config",
        hyperparams: Any,
        examples: "Examples",
        mesh: "Mesh | None",
        peak: float,
        bound: dict[str, Any] | None,
    ) -> None:
        import jax

        from mnist_jax import init_state
        from mnist_jax.parallel.mesh import replicate
        from mnist_jax.training.programs import epoch_program

        self.row, self.config, self.examples, self.peak, self.bound = row, config, examples, peak, bound
        rates = jax.tree.map(jax.numpy.float32, hyperparams)
        self.hyperparams, self.state = replicate((rates, init_state(config, jax.random.key(0))), mesh)
        start = time.perf_counter()
        program = epoch_program(self.config, mesh).lower(self.hyperparams, self.state, examples)
        self.compiled = program.compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> Any:
        """Trains an epoch."""
        self.state, metrics = self.compiled(self.hyperparams, self.state, self.examples)
        return self.state.params, metrics

    def figures(self, timing: Timing) -> dict[str, Any]:
        """The figures of the row."""
        from bench.roofline import flops

        count, batch_size = len(self.examples), self.config.batch_size
        steps = -(-count // batch_size)
        spec = cast(Network, self.config.model)
        achieved = flops(spec, batch_size) * (count / batch_size) / timing.median
        bound = self.bound
        return self.row | {
            "epoch_seconds": timing._asdict(),
            "compile_seconds": self.compile_seconds,
            "images_per_second": count / timing.median,
            "step_microseconds": 1e6 * timing.median / steps,
            "flops": achieved,
            "share_of_peak": achieved / self.peak,
            "floor": bound,
            "times_floor": None if bound is None else timing.median / (steps * bound["seconds"]),
        }


def _share_of_peak(row: dict[str, Any]) -> str:
    """The share; above 100 % the peak itself was measured at a busier moment, which is said."""
    return f"{row['share_of_peak']:.1%}{' (peak measured too low)' if row['share_of_peak'] > 1 else ''}"


COLUMNS = (
    ("preset", lambda row: row["preset"]),
    ("batch", lambda row: str(row["batch_size"])),
    ("dtype", lambda row: row["dtype"]),
    ("device", lambda row: row["device"]),
    ("images/s", lambda row: f"{row['images_per_second']:,.0f}"),
    (
        "ms/epoch",
        lambda row: "{:.0f} ({:.0f} to {:.0f})".format(
            *(1e3 * row["epoch_seconds"][name] for name in ("median", "low", "high"))
        ),
    ),
    ("us/step", lambda row: f"{row['step_microseconds']:.0f}"),
    ("of peak", _share_of_peak),
    ("x one device", lambda row: "" if row["times_one_device"] is None else f"{row['times_one_device']:.2f}"),
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
