"""Writes the report of a run directory."""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax.config.networks import FlaxModel
from mnist_jax.errors import RunError
from mnist_jax.report import report
from mnist_jax.runs import directory, results
from mnist_jax.runs.loading import load_params
from mnist_jax.runs.sweeps.sweep_results import read_sweep_table

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset


def write_report(
    folder: str | PathLike[str],
    data: "Dataset",
    out: str | PathLike[str] | None = None,
    *,
    model: FlaxModel | None = None,
) -> Path:
    """Writes the HTML report of a run directory, as `mnist-jax report` does.

    Args:
        folder: the run directory, such as from `save_run`.
        data: its data set.
        out: the page to write; by default `report.html` in the directory.
        model: the network of a run with a Flax module, which its directory cannot hold.

    Returns:
        The path of the page.

    Raises:
        RunError, CheckpointError, ModelError: as `write_page`; or the run has another data set.
        SpecError: the run has a Flax module, and it is not given.

    Examples:
        >>> import tempfile, jax
        >>> from mnist_jax import MLP, Config, fit, load, save_run
        >>> from mnist_jax.report import write_report
        >>> data, config = load("digits"), Config(MLP((32,)), epochs=2)
        >>> result = fit(config, data.train, data.validation, key=jax.random.key(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save_run(f"{folder}/run", config, result, data)
        ...     page = write_report(f"{folder}/run", data)
        >>> page.name
        'report.html'
    """
    path = Path(folder)
    run = directory.read(path)
    if run.dataset_sha256 != data.sha256:
        raise RunError(f"{path} must be a run on {data.name}, sha256 {data.sha256}; got {run.dataset_sha256}")
    if model is not None:
        run = replace(run, config=replace(run.config, model=model))
    target = path / "report.html" if out is None else Path(out)
    write_page(path, run, data, target)
    return target


def write_page(
    folder: Path,
    run: directory.Run,
    data: "Dataset",
    out: Path,
    *,
    command: Callable[[int], str] = lambda epochs: "",
) -> None:
    """Writes the report of a finished run.

    Args:
        folder: the run directory.
        run: its configuration.
        data: its data set.
        out: the page to write.
        command: gives, for the number of epochs trained, the command that repeats the run.

    Raises:
        RunError: the run is not finished, its scores belong to another network, or a file is damaged.
        CheckpointError: the checkpoint is damaged, or belongs to another run.
        ModelError: model.json does not describe model.onnx.
    """
    from mnist_onnx.session import read_bytes

    params = load_params(folder, run)
    scores = results.read(folder, params, run.config.model)
    model = folder / directory.MODEL
    if scores.onnx is not None and not model.is_file():
        raise RunError(f"{folder} must hold the run's {directory.MODEL}; it does not exist")
    onnx_bytes = 0 if scores.onnx is None else len(read_bytes(str(model)))
    probabilities = report.answers(run.config.model, params, data.test.images)
    results.check_answers(folder, scores, data.test.labels, probabilities.argmax(axis=1))
    html = report.report(
        run,
        scores,
        params,
        data,
        probabilities,
        command=command(len(scores.history)),
        onnx_bytes=onnx_bytes,
        swept=read_sweep_table(folder),
    )
    write_atomic(out, html.encode())
