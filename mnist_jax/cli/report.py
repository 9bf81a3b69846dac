"""`mnist-jax report`."""

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_jax import results, runs, swept
from mnist_jax.cli import options
from mnist_jax.errors import RunError
from mnist_jax.files import write_atomic
from mnist_jax.presets import PRESETS

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset

NAME = "report.html"


def report(
    run_dir: options.RunDir,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help=f"Where to write it. (default: RUN_DIR/{NAME})", show_default=False
        ),
    ] = None,
    data_dir: options.DataDir = None,
) -> None:
    """Write a page with everything there is to see of a run: curves, mistakes, what the network looks at.

    It is one HTML file that needs nothing else, neither a network nor another file.

    Example: mnist-jax report runs/my-run
    """
    run = runs.read(run_dir)
    out = options.page(out or run_dir / NAME)

    from mnist_jax.cli.process import start_jax, start_matplotlib

    start_jax()
    start_matplotlib()
    from mnist_jax.cli.experiment import load_for

    write(run_dir, run, load_for(run, data_dir), out)
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB); open it in a browser")  # noqa: T201


def write(folder: Path, run: runs.Run, data: "Dataset", out: Path) -> None:
    """Writes the report of a finished run.

    Raises:
        RunError: it is not finished, its scores are another network's, or a file of it is damaged.
        CheckpointError: the checkpoint is.
        ModelError: its model.json describes another file than model.onnx.
    """
    from mnist_jax.cli.experiment import load_params

    params = load_params(folder, run)
    found = results.read(folder, params)
    model = folder / runs.MODEL
    if not model.is_file():
        raise RunError(f"{folder} must hold the run's {runs.MODEL}; there is none")

    from mnist_jax import report as page
    from mnist_onnx.sessions import read_bytes

    onnx_bytes = len(read_bytes(str(model)))
    probabilities = page.answers(run.config.model, params, data.test.images)
    results.check_answers(folder, found, data.test.labels, probabilities.argmax(axis=1))
    html = page.report(
        run,
        found,
        params,
        data,
        probabilities,
        command=command(run, len(found.history)),
        onnx_bytes=onnx_bytes,
        swept=swept.read_sweep(folder),
    )
    write_atomic(out, html.encode())


def command(run: runs.Run, epochs: int) -> str:
    """What repeats a run of so many epochs; empty where the command line can't.

    It can't make a network that is no preset's, nor stop where a schedule is spread over more.
    """
    recipe = PRESETS.get(run.preset)
    stopped = epochs != run.config.epochs
    if (
        recipe is None
        or recipe.config.model != run.config.model
        or (stopped and run.config.schedule.follows_run)
    ):
        return ""
    run = replace(run, config=replace(run.config, epochs=epochs))
    keys = [] if run.prng_impl == runs.PRNG_IMPLS[0] else [f"JAX_DEFAULT_PRNG_IMPL={run.prng_impl}"]
    words = [*keys, "mnist-jax", "train", "--preset", run.preset, "--dataset", run.dataset]
    settings = [
        *((field.name, recipe.config, run.config) for field in fields(run.config) if field.name != "model"),
        *((name, recipe.hyper_with(run.config.optimizer), run.hyper) for name in run.hyper._fields),
        ("validation_fraction", recipe, run),
    ]
    for name, usual, used in settings:
        value = getattr(used, name)
        if value != getattr(usual, name):
            if value is None:  # for which there are no words
                return ""
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--seed", str(run.seed)])
