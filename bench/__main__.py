"""The command line of the benchmarks."""

import sys

import typer

from bench import accuracy, freehand, infer, many, peers, recipes, train
from mnist_jax.errors import MnistJaxError

app = typer.Typer(
    help="Measure training and inference on this machine. Each ends with one line of JSON.",
    add_completion=False,
    no_args_is_help=True,
)
app.command()(train.train)
app.command()(peers.peers)
app.command()(many.many)
app.command()(infer.infer)
app.command()(accuracy.accuracy)
app.command()(freehand.freehand)
app.command()(recipes.recipes)

if __name__ == "__main__":
    try:
        app(prog_name="python -m bench")
    except MnistJaxError as error:
        print(f"bench: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
