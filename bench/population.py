"""`bench population`: train many networks at once, as one program, with `vmap`."""

import functools
import time
from typing import Annotated, Any

import typer

from bench import options, output
from bench.timing import summarize, timed

CLOCK = (
    "Training of all networks, each with a seed of its own, from the first epoch until their mean "
    "validation accuracy reaches the target. Only training is timed, from the call of an epoch's compiled "
    "program until its result is ready; compilation and validation are excluded. Median, fastest and "
    "slowest of several complete trainings."
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
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Trainings to time.")] = 5,
    out: options.Out = None,
) -> None:
    """Networks per second to a target accuracy, by the number of networks trained at once.

    Example: python -m bench population --networks 1 --networks 16
    """
    import jax

    from mnist_jax import Config, load, preset
    from mnist_jax.config.validation import check_positive_int

    check_positive_int("repeats", repeats)
    platform = jax.devices()[0].platform
    sizes = [
        check_positive_int("networks", n)
        for n in counts or (1, 4, 16, 64, 256, *(1024,) * (platform == "gpu"))
    ]
    data = load(dataset, data_dir)
    config = Config(preset(preset_name).network, batch_size=batch_size)
    result = output.new("population", CLOCK) | {
        "dataset": dataset,
        "preset": preset_name,
        "target": target,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    for count in sizes:
        row = _train(config, count, data, target, learning_rate, most_epochs, repeats)
        alone = result["rows"][0]["seconds"]["median"] if result["rows"] else row["seconds"]["median"]
        row["times_first"] = row["seconds"]["median"] / alone
        result["rows"].append(row)
    output.finish(result, COLUMNS, _plot, out)


def _train(
    config: Any, count: int, data: Any, target: float, learning_rate: float, most_epochs: int, repeats: int
) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from mnist_jax import HyperParams, evaluate, init_state, train_epoch

    hyperparams = HyperParams(*(jnp.full(count, value, jnp.float32) for value in HyperParams(learning_rate)))
    train, validation = jax.device_put((data.train, data.validation))
    start_all = jax.jit(jax.vmap(functools.partial(init_state, config)))
    epoch = jax.jit(jax.vmap(functools.partial(train_epoch, config), in_axes=(0, 0, None)), donate_argnums=1)
    score = jax.jit(jax.vmap(functools.partial(evaluate, config.model), in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(0), count)
    start = time.perf_counter()
    run = epoch.lower(hyperparams, start_all(keys), train).compile()
    compile_seconds = time.perf_counter() - start

    def training() -> tuple[float, list[float]]:
        """Trains to the target; returns the seconds, and the mean accuracy after each epoch."""
        state, seconds = start_all(keys), 0.0
        accuracies: list[float] = []
        jax.block_until_ready(state.params)
        while not accuracies or (accuracies[-1] < target and len(accuracies) < most_epochs):

            def one() -> Any:
                nonlocal state
                state, metrics = run(hyperparams, state, train)
                return state.params, metrics

            seconds += timed(one)
            accuracies.append(float(score(state.params, validation).accuracy.mean()))
        return seconds, accuracies

    training()
    runs = [training() for _ in range(repeats)]
    timing = summarize([seconds for seconds, _ in runs])
    accuracies = runs[0][1]
    reached = accuracies[-1] >= target
    return {
        "networks": count,
        "epochs": len(accuracies),
        "accuracy": accuracies[-1],
        "reached": reached,
        "seconds": timing._asdict(),
        "networks_per_second": count / timing.median if reached else None,
        "compile_seconds": compile_seconds,
    }


COLUMNS = (
    ("networks", lambda row: str(row["networks"])),
    ("epochs", lambda row: str(row["epochs"])),
    ("accuracy", lambda row: f"{row['accuracy']:.2%}"),
    ("seconds", lambda row: "{median:.2f} ({low:.2f} to {high:.2f})".format(**row["seconds"])),
    ("x the first", lambda row: f"{row['times_first']:.2f}"),
    ("networks/s", lambda row: f"{row['networks_per_second']:.2f}" if row["reached"] else "not reached"),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    reached = [row for row in rows if row["reached"]]
    axes.plot([row["networks"] for row in reached], [row["networks_per_second"] for row in reached], "o-")
    axes.set(xscale="log", xlabel="networks trained at once", ylabel="networks per second to the target")
    axes.set(title="Many networks at once", ylim=(0, None))
    counts = [row["networks"] for row in reached]
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xticks([], minor=True)
