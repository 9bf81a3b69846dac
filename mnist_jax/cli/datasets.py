"""Loading of data sets in commands: progress, warnings as lines, pictures in several processes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax._utils.process_setup import default_prng_impl
from mnist_jax.cli.console import print_status
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.custom.source import DataSource
from mnist_jax.errors import SpecError
from mnist_jax.runs import loading
from mnist_jax.runs.directory import Run

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset


def source_from(
    data: Path | None,
    test_data: Path | None,
    test_fraction: float | None,
    classes: str | None,
    **flags: bool,
) -> DataSource | None:
    """The source that the options name; None without `--data`.

    Raises:
        SpecError: an option needs `--data`, or is invalid.
    """
    options: dict[str, Any] = {name: True for name, given in flags.items() if given}
    if test_data is not None:
        options["test_path"] = str(test_data.absolute())
    if test_fraction is not None:
        options["test_fraction"] = test_fraction
    if classes is not None:
        options["classes"] = tuple(name.strip() for name in classes.split(","))
    if data is not None:
        return DataSource(str(data.absolute()), **options)
    if options:
        name = "test_data" if "test_path" in options else next(iter(options))
        raise SpecError(f"--{name.replace('_', '-')} is for --data, a data set of your own; got none")
    return None


def load_new(
    dataset: str | None, data_dir: Path | None, source: DataSource | None, validation_fraction: float
) -> "Dataset":
    """Loads the data set that a command's options name; `digits` where MNIST is unavailable.

    Raises:
        SpecError: both a named data set and one's own are given.
        DatasetError: it is not there, or damaged.
    """
    if source is None:
        return loading.load_or_digits(dataset, data_dir, validation_fraction, print_status)
    if dataset is not None or data_dir is not None:
        raise SpecError(f"--data and --dataset or --data-dir exclude each other; got --data {source.path}")
    from mnist_jax.data.custom.source import load_source

    with _warnings_as_lines():
        return load_source(source, validation_fraction=validation_fraction, **_aids())


def load_of(run: Run, path: Path | None) -> "Dataset":
    """Loads the data set of a run, as `loading.load_dataset_of`."""
    with _warnings_as_lines():
        return loading.load_dataset_of(run, path, **_aids())


def _aids() -> dict[str, Any]:
    from mnist_jax.cli.predict_input import from_files

    return {"say": print_status, "reader": from_files}


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        print_status(f"WARNING: {warning.message}")


def for_classes(config: Config, data: "Dataset") -> Config:
    """A config whose network has as many classes as the data set."""
    return replace(config, model=replace(config.model, num_classes=len(data.classes)))


def new_run(
    preset_name: str,
    config: Config,
    hyperparams: HyperParams,
    seed: int,
    data: "Dataset",
    source: DataSource | None,
    validation_fraction: float,
) -> Run:
    """A run on a data set from `load_new`.

    Raises:
        SpecError: the network is too large for an ONNX file.
    """
    from mnist_jax.config.input_checks import check_exportable

    classes = None if source is None else data.classes
    origin = data.name, data.sha256, validation_fraction, default_prng_impl(), classes, source
    run = Run(preset_name, for_classes(config, data), hyperparams, seed, *origin)
    check_exportable(run.config.model)
    return run
