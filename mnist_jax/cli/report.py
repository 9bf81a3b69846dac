"""`mnist-jax report`."""

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax.cli import options
from mnist_jax.cli.datasets import load_of
from mnist_jax.cli.network import network_options
from mnist_jax.config.functions import Function
from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.presets import DEFAULT_PRESET, PRESETS
from mnist_jax.data.custom.source import DataSource
from mnist_jax.errors import RunError
from mnist_jax.runs import directory, results, sweep_results

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
    """Writes the report of a finished run.

    Args:
        folder: the run directory.
        run: its configuration.
        data: its data set.
        out: the page to write.

    Raises:
        RunError: the run is not finished, its scores belong to another network, or a file is damaged.
        CheckpointError: the checkpoint is damaged, or belongs to another run.
        ModelError: model.json does not describe model.onnx.
    """
    from mnist_jax.runs.loading import load_params

    params = load_params(folder, run)
    scores = results.read(folder, params, run.config.model.num_classes)
    model = folder / directory.MODEL
    if not model.is_file():
        raise RunError(f"{folder} must hold the run's {directory.MODEL}; it does not exist")

    from mnist_jax.report import report as page
    from mnist_onnx.session import read_bytes

    onnx_bytes = len(read_bytes(str(model)))
    probabilities = page.answers(run.config.model, params, data.test.images)
    results.check_answers(folder, scores, data.test.labels, probabilities.argmax(axis=1))
    html = page.report(
        run,
        scores,
        params,
        data,
        probabilities,
        command=command(run, len(scores.history)),
        onnx_bytes=onnx_bytes,
        swept=sweep_results.read_sweep_table(folder),
    )
    write_atomic(out, html.encode())


def command(run: directory.Run, epochs: int) -> str:
    """Returns the command that repeats a run, or nothing where there is none.

    There is none for runs that were stopped before the end of a schedule, or made in Python.

    Args:
        run: the run's configuration.
        epochs: number of epochs that it trained.
    """
    recipe = PRESETS.get(run.preset, PRESETS[DEFAULT_PRESET])
    stopped = epochs != run.config.epochs
    network, parts = run.config.model, (run.config.optimizer, run.config.schedule, run.config.loss)
    if isinstance(network, FlaxModel) or any(isinstance(part, Function) for part in parts):
        return ""
    if (stopped and run.config.follows_run) or (run.classes is not None and run.data is None):
        return ""
    run = replace(run, config=replace(run.config, epochs=epochs))
    keys = [] if run.prng_impl == directory.PRNG_IMPLS[0] else [f"JAX_DEFAULT_PRNG_IMPL={run.prng_impl}"]
    preset = run.preset if run.preset in PRESETS else DEFAULT_PRESET
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
