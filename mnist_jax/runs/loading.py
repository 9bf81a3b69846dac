"""Loads what runs are made of: their data sets, configurations and networks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax._utils.nested_dicts import flatten_dict
from mnist_jax.config.networks import Ensemble, Spec
from mnist_jax.config.validation import shorten
from mnist_jax.data.custom.source import DataSource, check_exists, load_source, moved
from mnist_jax.errors import CheckpointError, DatasetError, DatasetUnavailableError, RunError
from mnist_jax.runs.directory import CHECKPOINT, Run, read, to_json

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset
    from mnist_jax.types import Params


def load_dataset_of(run: Run, path: Path | None, **aids: Any) -> "Dataset":
    """Loads the data set that a run was started with.

    Args:
        run: the run.
        path: the folder with a named data set's files; or, for a run on data of one's own, where it is now.
        aids: `say` and `reader` of `load_source`.

    Raises:
        DatasetError: the data set under that name is a different one now, or the run does not know where
            its data is.
    """
    from mnist_jax.data.datasets import load

    fraction = run.validation_fraction
    if run.classes is None:
        data = load(run.dataset, path, validation_fraction=fraction)
    else:
        if run.data is None and path is None:
            raise DatasetError(
                f"the run was made in Python, from arrays called {run.dataset}; give a file or folder with "
                "the same data: --data PATH"
            )
        source = moved(run.data or DataSource(str(path)), path)
        check_exists(Path(source.path), "; if it was moved: --data PATH")
        data = load_source(source, validation_fraction=fraction, name=run.dataset, **aids)
    if data.sha256 != run.dataset_sha256:
        raise DatasetError(
            f"the run must use the {run.dataset} it started with, sha256 {run.dataset_sha256}; "
            f"got sha256 {data.sha256}"
        )
    return data


def read_runs(command: str, folders: Sequence[Path]) -> list[Run]:
    """Reads the configurations of two or more runs on the same data.

    Raises:
        RunError: there are fewer than two, one is given twice, or their data differ; or as `directory.read`.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise RunError(f"{command} needs two or more different runs; got {', '.join(map(str, folders))}")
    runs = [read(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        if run.dataset_sha256 != runs[0].dataset_sha256:
            raise RunError(
                f"{command} needs runs on the same data; {folders[0]} is on {runs[0].dataset}, "
                f"{folder} on {'another ' * (run.dataset == runs[0].dataset)}{run.dataset}"
            )
    return runs


def load_or_digits(
    dataset: str | None, data_dir: Path | None, fraction: float, print_status: Callable[[str], None]
) -> "Dataset":
    """Loads the named data set; without a name MNIST, or `digits` where MNIST is unavailable."""
    from mnist_jax.data.datasets import load

    if dataset is not None:
        return load(dataset, data_dir, validation_fraction=fraction)
    try:
        return load("mnist", data_dir, validation_fraction=fraction)
    except DatasetUnavailableError as error:
        print_status("WARNING: training on `digits`, a small built-in data set, instead of MNIST.")
        print_status(f"The scores below are not for MNIST: {error}")
        return load("digits", validation_fraction=fraction)


def load_params(folder: Path, run: Run) -> dict[str, Any]:
    """Loads a run's parameters, and checks that its checkpoint matches its config.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to another run.
    """
    from mnist_jax.training import checkpoint

    params, metadata = checkpoint.load_params(folder / CHECKPOINT)
    check_origin(folder / CHECKPOINT, metadata, run)
    return params


def load_networks(folders: Sequence[Path], runs: Sequence[Run]) -> "tuple[Spec, Params]":
    """Loads the network of one run, or the ensemble of several.

    Raises:
        CheckpointError: as `load_params`.
        SpecError: the networks differ in their output.
    """
    from mnist_jax.nn.model import ensemble_params

    networks: tuple[Any, ...] = tuple(run.config.model for run in runs)
    spec = Ensemble(networks) if len(networks) > 1 else networks[0]
    params = [load_params(folder, run) for folder, run in zip(folders, runs, strict=True)]
    return spec, ensemble_params(params) if len(params) > 1 else params[0]


def check_origin(path: Path, metadata: dict[str, Any], run: Run) -> None:
    """Checks that a checkpoint was written by this run; only the number of epochs may differ.

    Args:
        path: the checkpoint.
        metadata: its metadata.
        run: the run's configuration.

    Raises:
        CheckpointError: a setting differs; the message names the first one.
    """
    ours, theirs = flatten_json(to_json(run)), flatten_json(metadata.get("run"))
    for name in sorted(set(ours) | set(theirs)):
        if name != "config.epochs" and ours.get(name) != theirs.get(name):
            raise CheckpointError(
                f"{path} and config.json must belong to one run; in the checkpoint {name} is "
                f"{shorten(theirs.get(name))}; got {shorten(ours.get(name))}"
            )


def flatten_json(values: Any) -> dict[str, Any]:
    """Flattens a JSON object: `{"config": {"epochs": 3}}` becomes `{"config.epochs": 3}`; else no entries."""
    return flatten_dict(values, ".") if isinstance(values, dict) else {}
