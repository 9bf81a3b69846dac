"""`mnist-jax report`."""

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_jax.cli import options
from mnist_jax.cli.datasets import load_of
from mnist_jax.cli.network import network_options
from mnist_jax.config.functions import Function
from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.presets import DEFAULT_PRESET, PRESETS
from mnist_jax.data.custom.source import DataSource
from mnist_jax.runs import directory

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset

NAME = "report.html"


def report(
    run_dir: options.RunDir,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help=f"The HTML page to write. (default: RUN_DIR/{NAME})", show_default=False
        ),
    ] = None,
    data_dir: options.DataPath = None,
    platform: options.Platform = None,
) -> None:
    """Write an HTML report of a run: curves, confusion, mistakes, saliency, robustness, calibration.

    The page is one self-contained file; it loads nothing from the network.

    Example: mnist-jax report runs/my-run
    """
    run = directory.read(run_dir)
    out = options.page(out or run_dir / NAME)

    from mnist_jax._utils.process_setup import start_jax, start_matplotlib

    start_jax()
    start_matplotlib()
    write(run_dir, run, load_of(run, data_dir), out)
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB); open it in a browser")  # noqa: T201


def write(folder: Path, run: directory.Run, data: "Dataset", out: Path) -> None:
    """Writes the report of a finished run, with the command that repeats it.

    Args:
        folder: the run directory.
        run: its configuration.
        data: its data set.
        out: the page to write.
    """
    from mnist_jax.report.writing import write_page

    write_page(folder, run, data, out, command=lambda epochs: command(run, epochs))


def command(run: directory.Run, epochs: int) -> str:
    """Returns the command that repeats a run, or nothing where there is none.

    There is none for runs that were stopped before the end of a schedule, or made in Python.

    Args:
        run: the run's configuration.
        epochs: number of epochs that it trained.
    """
    preset = run.preset if run.preset in PRESETS else DEFAULT_PRESET
    recipe = PRESETS[preset]
    stopped = epochs != run.config.epochs
    network, parts = run.config.model, (run.config.optimizer, run.config.schedule, run.config.loss)
    if isinstance(network, FlaxModel) or any(isinstance(part, Function) for part in parts):
        return ""
    if (stopped and run.config.follows_run) or (run.classes is not None and run.data is None):
        return ""
    run = replace(run, config=replace(run.config, epochs=epochs))
    keys = [] if run.prng_impl == directory.PRNG_IMPLS[0] else [f"JAX_DEFAULT_PRNG_IMPL={run.prng_impl}"]
    words = [*keys, "mnist-jax", "train", "--preset", preset, *_data_options(run)]
    if replace(network, num_classes=recipe.network.num_classes) != recipe.network:
        words += network_options(network)
    settings = [
        *((field.name, recipe.config, run.config) for field in fields(run.config) if field.name != "model"),
        *(
            (name, recipe.hyperparams_for(run.config.optimizer), run.hyperparams)
            for name in run.hyperparams._fields
        ),
        ("validation_fraction", recipe, run),
    ]
    words += ["--keep-best"] if run.keep_best else []
    words += ["--early-stopping", str(run.early_stopping)] if run.early_stopping is not None else []
    words += ["--monitor", run.monitor] if run.monitor is not None else []
    for name, defaults, used in settings:
        value = getattr(used, name)
        if value != getattr(defaults, name):
            if value is None:  # no option can express it
                return ""
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--seed", str(run.seed)])


def _data_options(run: directory.Run) -> list[str]:
    """The options that name a run's data set."""
    source = run.data
    if source is None:
        return ["--dataset", run.dataset]
    words = ["--data", source.path]
    if source.test_path is not None:
        words += ["--test-data", source.test_path]
    if source.test_fraction != DataSource.test_fraction:
        words += ["--test-fraction", str(source.test_fraction)]
    if source.classes is not None:
        words += ["--classes", ",".join(source.classes)]
    flags = {"--invert": source.invert, "--resize": source.resize, "--transposed": source.transposed}
    return [*words, *(flag for flag, given in flags.items() if given)]
