"""`bench many`: many networks trained at once, as one program, through `vmap`."""

import functools
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import report
from bench.clock import summarize, timed

CLOCK = (
    "All networks from their first epoch on, each with a seed of its own, until their mean accuracy on the "
    "validation set reaches the target: training alone, from the call of an epoch's compiled program until "
    "its result is ready; compiling and validation are not on the clock. Median, fastest and slowest of "
    "several whole trainings."
)


def many(
    counts: Annotated[
        list[int] | None, typer.Option("--networks", metavar="N", help="How many at once; may be repeated.")
    ] = None,
    preset_name: Annotated[str, typer.Option("--preset", metavar="P", help="Which network.")] = "mlp-100",
    target: Annotated[float, typer.Option(metavar="X", help="Mean validation accuracy to reach.")] = 0.97,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Examples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(metavar="X", help="Adam's step size.")] = 3e-3,
    most_epochs: Annotated[int, typer.Option(metavar="N", help="Give up after so many.")] = 20,
    dataset: Annotated[str, typer.Option(metavar="D", help="What to train on.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it is.")] = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Trainings that are timed.")] = 5,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write JSON, Markdown and a plot.")] = None,
) -> None:
    """Networks per second to a target accuracy, by how many are trained at once.

    Example: python -m bench many --networks 1 --networks 16
    """
    import jax

    from mnist_jax import Config, load, preset
    from mnist_jax.settings import check_whole

    check_whole("repeats", repeats)
    platform = jax.devices()[0].platform
    sizes = [
        check_whole("networks", n) for n in counts or (1, 4, 16, 64, 256, *(1024,) * (platform == "gpu"))
    ]
    data = load(dataset, data_dir)
    config = Config(preset(preset_name).config.model, batch_size=batch_size)
    result = report.new("many", CLOCK) | {
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
    report.finish(result, COLUMNS, _plot, out)


def _train(
    config: Any, count: int, data: Any, target: float, learning_rate: float, most_epochs: int, repeats: int
) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from mnist_jax import Hyper, evaluate, init_state, train_epoch

    hyper = Hyper(*(jnp.full(count, value, jnp.float32) for value in Hyper(learning_rate)))
    train, validation = jax.device_put((data.train, data.validation))
    start_all = jax.jit(jax.vmap(functools.partial(init_state, config)))
    epoch = jax.jit(jax.vmap(functools.partial(train_epoch, config), in_axes=(0, 0, None)), donate_argnums=1)
    score = jax.jit(jax.vmap(functools.partial(evaluate, config.model), in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(0), count)
    start = time.perf_counter()
    run = epoch.lower(hyper, start_all(keys), train).compile()
    compile_seconds = time.perf_counter() - start

    def training() -> tuple[float, list[float]]:
        """Seconds of training, and the mean accuracy after each epoch."""
        state, seconds = start_all(keys), 0.0
        accuracies: list[float] = []
        jax.block_until_ready(state.params)
        while not accuracies or (accuracies[-1] < target and len(accuracies) < most_epochs):

            def one() -> Any:
                nonlocal state
                state, metrics = run(hyper, state, train)
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
