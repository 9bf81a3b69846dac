"""`bench population`: train many networks at once, as one program, with `vmap`."""

import functools
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench import options, output
from bench.devices import Devices, groups, mesh_of, name_of
from bench.timing import Timing, interleaved

if TYPE_CHECKING:
    import jax

    from mnist_jax import Config
    from mnist_jax.data.datasets import Dataset

CLOCK = (
    "Training of all networks, each with a seed of its own, from the first epoch until their mean "
    "validation accuracy reaches the target. Only training is timed, from the call of an epoch's compiled "
    "program until its result is ready; compilation and validation are excluded. All rows take turns, a "
    "training each. Median, fastest and slowest."
)


def population(
    counts: Annotated[
        list[int] | None,
        typer.Option("--networks", metavar="N", help="Networks to train at once; may be repeated."),
    ] = None,
    preset_name: Annotated[
        str, typer.Option("--preset", metavar="P", help="Preset of the network.")
    ] = "mlp-100",
    target: Annotated[float, typer.Option(metavar="X", help="Target mean validation accuracy.")] = 0.97,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Examples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(metavar="X", help="Adam's learning rate.")] = 3e-3,
    most_epochs: Annotated[int, typer.Option(metavar="N", help="Maximum number of epochs.")] = 20,
    device_counts: Devices = None,
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Trainings to time.")] = 5,
    out: options.Out = None,
) -> None:
    """Networks per second to a target accuracy, by the number of networks trained at once.

    Example: mnist-jax bench population --networks 1 --networks 16
    """
    from mnist_jax import Config, load, preset
    from mnist_jax.config.validation import check_positive_int
    from mnist_jax.errors import SpecError

    check_positive_int("repeats", repeats)
    data = load(dataset, data_dir)
    config = Config(preset(preset_name).network, batch_size=batch_size)
    together = groups(device_counts or ["1"])
    result = output.new("population", CLOCK) | {
        "dataset": dataset,
        "preset": preset_name,
        "target": target,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    trainings: dict[tuple[int, str], _Training] = {}
    for devices in together:
        for count in counts or (1, 4, 16, 64, 256, *(1024,) * (devices[0].platform == "gpu")):
            number = check_positive_int("networks", count)
            if number % len(devices):
                raise SpecError(f"networks must be a multiple of the {len(devices)} devices; got {number}")
            output.status(f"compiling {number} networks on {name_of(devices)}")
            trainings[number, name_of(devices)] = _Training(
                config, number, devices, data, target, learning_rate, most_epochs
            )
    timings = interleaved(trainings, repeats, output.status, clock=lambda training: training())
    result["rows"] = [trainings[key].figures(timing) for key, timing in timings.items()]
    for row in result["rows"]:
        row["times_first"] = row["seconds"]["median"] / result["rows"][0]["seconds"]["median"]
    output.finish(result, COLUMNS, _plot, out)


class _Training:
    """A compiled epoch of many networks; called, it trains them to the target."""

    def __init__(
        self,
        config: "Config",
        count: int,
        devices: "list[jax.Device]",
        data: "Dataset",
        target: float,
        learning_rate: float,
        most_epochs: int,
    ) -> None:
        import jax
        import jax.numpy as jnp

        from mnist_jax import HyperParams, evaluate, init_state, train_epoch
        from mnist_jax.parallel.mesh import batch_sharding, place, replicate
        from mnist_jax.training.sweep import map_runs

        mesh = mesh_of(devices)
        self.count, self.devices, self.target, self.most_epochs = count, devices, target, most_epochs
        rates = HyperParams(*(jnp.full(count, value, jnp.float32) for value in HyperParams(learning_rate)))
        keys = jax.random.split(jax.random.key(0), count)
        if mesh is not None:
            rates, keys = place((rates, keys), batch_sharding(mesh))
        mapped = functools.partial(map_runs, mesh, count // len(devices))
        epoch = jax.jit(mapped(functools.partial(train_epoch, config), (0, 0, None)), donate_argnums=1)
        self.start = functools.partial(jax.jit(mapped(functools.partial(init_state, config), (0,))), keys)
        self.score = jax.jit(mapped(functools.partial(evaluate, config.model), (0, None)))
        self.train, self.validation = replicate((data.train, data.validation), mesh)
        start = time.perf_counter()
        self.run = functools.partial(epoch.lower(rates, self.start(), self.train).compile(), rates)
        self.compile_seconds = time.perf_counter() - start
        self.accuracies: list[float] = []

    def __call__(self) -> float:
        """Trains to the target; returns the seconds, and keeps the mean accuracy after each epoch."""
        import jax

        state, seconds = jax.block_until_ready(self.start()), 0.0
        self.accuracies = []
        while not self.accuracies or (
            self.accuracies[-1] < self.target and len(self.accuracies) < self.most_epochs
        ):
            start = time.perf_counter()
            state, _ = jax.block_until_ready(self.run(state, self.train))
            seconds += time.perf_counter() - start
            self.accuracies.append(float(self.score(state.params, self.validation).accuracy.mean()))
        return seconds

    def figures(self, timing: Timing) -> dict[str, Any]:
        """The figures of the row."""
        reached = self.accuracies[-1] >= self.target
        return {
            "networks": self.count,
            "device": name_of(self.devices),
            "devices": len(self.devices),
            "epochs": len(self.accuracies),
            "accuracy": self.accuracies[-1],
            "reached": reached,
            "seconds": timing._asdict(),
            "networks_per_second": self.count / timing.median if reached else None,
            "compile_seconds": self.compile_seconds,
        }


COLUMNS = (
    ("networks", lambda row: str(row["networks"])),
    ("device", lambda row: row["device"]),
    ("epochs", lambda row: str(row["epochs"])),
    ("accuracy", lambda row: f"{row['accuracy']:.2%}"),
    ("seconds", lambda row: "{median:.2f} ({low:.2f} to {high:.2f})".format(**row["seconds"])),
    ("x the first", lambda row: f"{row['times_first']:.2f}"),
    ("networks/s", lambda row: f"{row['networks_per_second']:.2f}" if row["reached"] else "not reached"),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    reached = [row for row in rows if row["reached"]]
    for device in dict.fromkeys(row["device"] for row in reached):
        own = [row for row in reached if row["device"] == device]
        speeds = [row["networks_per_second"] for row in own]
        axes.plot([row["networks"] for row in own], speeds, "o-", label=device)
    axes.set(xscale="log", xlabel="networks trained at once", ylabel="networks per second to the target")
    axes.set(title="Many networks at once", ylim=(0, None))
    counts = sorted({row["networks"] for row in reached})
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xticks([], minor=True)
    if reached:
        axes.legend(fontsize="small")
