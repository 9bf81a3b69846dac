"""The command line of the benchmarks."""

import sys

import typer

from bench import (
    compare,
    conformance,
    frameworks,
    freehand,
    latency,
    mlp_from_cnn,
    photographs,
    population,
    scale,
    test_error,
    throughput,
    time_to_accuracy,
)
from mnist_jax._utils.process_setup import configure_process
from mnist_jax.errors import MnistJaxError

app = typer.Typer(
    help="Measure training and inference on this machine. Each benchmark ends with one line of JSON.\n\n"
    "Example: mnist-jax bench throughput --preset mlp-100 --batch-size 32",
    add_completion=False,
    no_args_is_help=True,
)
app.command()(throughput.throughput)
app.command()(frameworks.frameworks)
app.command()(population.population)
app.command()(scale.scale)
app.command()(latency.latency)
app.command()(time_to_accuracy.time_to_accuracy)
app.command()(freehand.freehand)
app.command()(photographs.photographs)
app.command()(test_error.test_error)
app.command()(mlp_from_cnn.mlp_from_cnn)
app.command()(conformance.conformance)
app.command()(compare.compare)

if __name__ == "__main__":
    configure_process()
    try:
        app(prog_name="python -m bench")
    except MnistJaxError as error:
        print(f"bench: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
