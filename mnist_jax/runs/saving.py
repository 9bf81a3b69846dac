"""A run directory of a training in Python."""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax.config.input_checks import check_exportable
from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.training import MONITORS, Config, HyperParams, default_hyperparams
from mnist_jax.config.validation import is_label
from mnist_jax.data import registry
from mnist_jax.data.registry import DATASETS
from mnist_jax.errors import SpecError
from mnist_jax.runs import directory, pipeline, provenance
from mnist_jax.runs.session import metrics_of, save_state, write_results

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset
    from mnist_jax.training.records import EpochRecord, FitResult
    from mnist_jax.training.state import TrainState


def save_run(
    folder: str | PathLike[str],
    config: Config,
    result: "FitResult",
    data: "Dataset",
    *,
    hyperparams: HyperParams | None = None,
    callback: Any = None,
    name: str = "custom",
    seed: int = 0,
    history: "Sequence[EpochRecord] | None" = None,
) -> dict[str, Any]:
    """Makes a run directory of a training in Python, for `mnist-jax report`, `compare`, `verify` and `serve`.

    Scores the network on the test set, exports it to ONNX and checks parity. The directory has no ONNX file
    of a `FlaxModel`; see `mnist_onnx.export_flax` and `mnist_jax.report.write_report` for those.

    Args:
        folder: a new directory.
        config: the config that was trained with. Of Python functions and modules only the names are kept.
        result: of `fit`.
        data: the data set.
        hyperparams: those that were given to `fit`.
        callback: `KeepBest` and `EarlyStopping` if they were given to `fit`, so that `mnist-jax train
            --resume` goes on with them. Others leave no trace.
        name: what the run is called, in place of a preset.
        seed: the seed of the key that was given to `fit`, for the record.
        history: the records of all epochs; by default those of `result`.

    Returns:
        The content of its `metrics.json`.

    Raises:
        RunError: the directory is not empty, or not writable.
        SpecError: the history does not begin with the first epoch, a callback is missing, `name` or `seed`
            is invalid, or the network is too large for an ONNX file.

    Examples:
        >>> import tempfile, jax
        >>> from mnist_jax import MLP, Config, fit, load, save_run
        >>> data, config = load("digits"), Config(MLP((32,)), epochs=2)
        >>> result = fit(config, data.train, data.validation, key=jax.random.key(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     metrics = save_run(f"{folder}/run", config, result, data)
        >>> metrics["onnx"]["passed"], metrics["test"]["n"]
        (True, 297)
    """
    import jax

    from mnist_jax.training.records import FitResult

    if not isinstance(result, FitResult):
        raise SpecError(f"save_run takes the result of fit; got {type(result).__name__}")
    records = tuple(result.history if history is None else history)
    if [record.epoch for record in records] != list(range(1, len(records) + 1)) or not records:
        raise SpecError(
            "history must begin with the first epoch; got epochs "
            f"{', '.join(str(record.epoch) for record in records[:3]) or 'none'}; "
            "after a resume, give history=first.history + second.history"
        )
    if not is_label(name):
        raise SpecError(f"a run's name must be short and printable; got {name!r}")
    directory.check_seed(seed)
    check_exportable(config.model)
    selection = _selection(callback, result.state)
    hyperparams = default_hyperparams(config.optimizer) if hyperparams is None else hyperparams
    fraction, impl = _validation_fraction(data), str(jax.random.key_impl(result.state.key))
    named = data.name in DATASETS and data.classes == registry.classes(data.name)
    classes = None if named else data.classes
    run = directory.Run(
        name, config, hyperparams, seed, data.name, data.sha256, fraction, impl, classes, **selection
    )
    versions, path = provenance.versions(), Path(folder)
    with directory.create_run_dir(path, run, versions):
        outcome = pipeline.score_and_export(run, data, result._replace(history=[]), records)
        state = outcome.state if selection else _without_memories(config, outcome.state)
        save_state(path, run, state, list(records), versions)
        seconds = result.compile_seconds + sum(record.seconds for record in records)
        metrics = metrics_of(run, outcome, seconds, versions)
        write_results(path, outcome, metrics)
    return metrics


def _validation_fraction(data: "Dataset") -> float:
    """A fraction of the training set that gives the validation set's size, as `load` rounds it."""
    held_out = 0 if data.validation is None else len(data.validation)
    total = len(data.train) + held_out
    fraction = held_out / total
    exact = math.floor(total * (1 - fraction)) == len(data.train)
    return fraction if exact else (held_out - 0.5) / total


def _selection(callback: Any, state: "TrainState") -> dict[str, Any]:
    """The fields of a run for its callbacks; none where `config.json` cannot hold them.

    Raises:
        SpecError: the state has the memory of a callback that is not given.
    """
    from mnist_jax.training.callbacks import EarlyStopping, KeepBest
    from mnist_jax.training.callbacks.running import as_callbacks, with_memories

    given = as_callbacks(callback)
    with_memories(given, state)
    memories = state.memories or {}
    kept = [each for each in given if type(each).__name__ in memories]
    monitors = {getattr(each, "monitor", None) for each in kept}
    plain = all(
        isinstance(each, KeepBest) or (isinstance(each, EarlyStopping) and not each.min_delta)
        for each in kept
    )
    if len(monitors) != 1 or not plain:
        return {}
    monitor = monitors.pop()
    return {
        "early_stopping": next((each.patience for each in kept if isinstance(each, EarlyStopping)), None),
        "keep_best": True if "KeepBest" in memories else None,
        "monitor": None if monitor == MONITORS[0] else monitor,
    }


def _without_memories(config: Config, state: "TrainState") -> "TrainState":
    """A state whose parameters are those to evaluate, without callbacks to go on with."""
    if not state.memories:
        return state
    params, model_state = state.eval_params, None
    if isinstance(config.model, FlaxModel):
        from mnist_jax.nn.flax_model import split_variables

        params, model_state = split_variables(params)
    ema_params = None if state.ema_params is None else params
    return state._replace(params=params, ema_params=ema_params, model_state=model_state, memories=None)
