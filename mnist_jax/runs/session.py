"""One training run in its directory: resuming, checkpoints, results."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mnist_jax._utils.text import finite
from mnist_jax.errors import CheckpointError, DivergenceError
from mnist_jax.runs import directory, loading, pipeline, provenance, results
from mnist_jax.runs.pipeline import RunOutcome, StartState

if TYPE_CHECKING:
    import jax

    from mnist_jax.data.datasets import Dataset
    from mnist_jax.training.records import EpochRecord
    from mnist_jax.training.state import TrainState


class Watcher(Protocol):
    """What shows the progress of a run."""

    @property
    def on_epoch(self) -> "Callable[[EpochRecord], bool]":
        """Called with each epoch's record; training stops if it returns True."""

    @property
    def say(self) -> Callable[[str], None]:
        """Called with what is done after training."""


def newest(folder: Path, run: directory.Run, print_status: Callable[[str], None]) -> StartState:
    """Loads the newest valid checkpoint of a run directory.

    Args:
        folder: the run directory.
        run: its configuration.
        print_status: called with a message if the newest checkpoint is skipped.

    Returns:
        The checkpoint's state and history; an empty start without a checkpoint.

    Raises:
        CheckpointError: every checkpoint is damaged or belongs to another run; the message is about the
            older one.
    """
    from mnist_jax.training import checkpoint

    path = folder / directory.CHECKPOINT
    previous = checkpoint.previous_path(path)
    if path.exists():
        try:
            return _read(path, run)
        except CheckpointError as error:
            if not previous.exists():
                raise
            print_status(f"falling back to {previous.name}: {error}")
    return _read(previous, run) if previous.exists() else StartState()


def _read(path: Path, run: directory.Run) -> StartState:
    from mnist_jax.training import checkpoint
    from mnist_jax.training.start import abstract_state

    state, metadata = checkpoint.load(path, abstract_state(run.config, pipeline.callbacks_of(run)))
    loading.check_origin(path, metadata, run)
    try:
        history = tuple(results.record_from(record) for record in metadata["history"])
        if [record.epoch for record in history] != list(range(1, len(history) + 1)):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError(f"{path} is damaged: its metadata has no history") from None
    return StartState(state, history)


def complete(
    folder: Path,
    run: directory.Run,
    data: "Dataset",
    versions: dict[str, str],
    started: float,
    start: StartState = StartState(),
    checkpoint_every: int = 1,
    *,
    shown: Watcher,
    devices: "Sequence[jax.Device] | None" = None,
) -> tuple[RunOutcome, dict[str, Any]]:
    """Trains in a locked run directory, and writes all results.

    Of several processes all take part, and the first writes.

    Args:
        folder: the run directory, locked by the first process.
        run: its configuration.
        data: its data set.
        versions: package versions, for `config.json` and `metrics.json`.
        started: `time.perf_counter()` at the start of the command.
        start: where training starts.
        checkpoint_every: number of epochs between two checkpoints.
        shown: its `on_epoch` is called with each epoch's record, and training stops if it returns True; its
            `say` is called with what is done after training.
        devices: the devices that share each batch out; None for JAX's default one.

    Returns:
        The outcome, and the content of `metrics.json`.

    Raises:
        DivergenceError: the loss or a parameter became NaN or infinite. The directory holds the last finite
            state.
    """
    from mnist_jax.parallel.processes import is_main

    loading = time.perf_counter() - started
    outcome = _train(folder, run, data, start, checkpoint_every, versions, shown, devices)
    metrics = metrics_of(run, outcome, time.perf_counter() - started, versions, loading, devices)
    if is_main():
        write_results(folder, outcome, metrics)
    return outcome, metrics


def _train(
    folder: Path,
    run: directory.Run,
    data: "Dataset",
    start: StartState,
    checkpoint_every: int,
    versions: dict[str, str],
    shown: Watcher,
    devices: "Sequence[jax.Device] | None",
) -> RunOutcome:
    """Trains with checkpoints, then evaluates, exports and checks parity.

    The directory's other files stay unchanged until there is a new checkpoint.

    Raises:
        DivergenceError: the directory holds the last finite state.
    """
    history, saved = list(start.history), len(start.history)

    def after_epoch(record: "EpochRecord", state: "TrainState") -> bool:
        nonlocal saved
        history.append(record)
        stop = shown.on_epoch(record)
        if stop or record.epoch == run.config.epochs or record.epoch % checkpoint_every == 0:
            save_state(folder, run, state, history, versions)
            saved = len(history)
        return stop

    try:
        outcome = pipeline.train_and_export(run, data, start, after_epoch, shown.say, devices)
        if saved < len(history):  # it stopped early
            save_state(folder, run, outcome.state, history, versions)
        return outcome
    except DivergenceError as error:
        if start.state is None or len(history) > len(start.history):
            save_state(folder, run, error.state, history, versions)
        message = f"{error}; the last finite state is in {folder}"
        raise DivergenceError(message, error.state, history) from None


def save_state(
    folder: Path,
    run: directory.Run,
    state: "TrainState",
    history: "list[EpochRecord]",
    versions: dict[str, str],
) -> None:
    """Writes the checkpoint, `config.json` and `history.csv`, and removes an earlier state's scores.

    The scores are removed only after the new checkpoint is written, so that a full disk loses nothing. If
    the process is killed in between, `results.read_metrics` detects that they are outdated. Of several
    processes only the first writes.
    """
    from mnist_jax.parallel.processes import is_main
    from mnist_jax.training import checkpoint

    if not is_main():
        return
    directory.write_config(folder, run, versions)
    metadata = {"run": directory.to_json(run), "history": [asdict(record) for record in history]}
    checkpoint.save(folder / directory.CHECKPOINT, state, metadata)
    (folder / directory.METRICS).unlink(missing_ok=True)
    directory.write_history(folder, history)


def write_results(folder: Path, outcome: RunOutcome, metrics: dict[str, Any]) -> None:
    """Writes a run's results; `metrics.json` last, since it marks the run as finished."""
    import mnist_onnx
    from mnist_jax.training import checkpoint

    if outcome.model is not None:
        mnist_onnx.save(outcome.model, folder / directory.MODEL)
    # Written again, since a process killed after its last checkpoint leaves an earlier history.
    directory.write_history(folder, outcome.history)
    checkpoint.previous_path(folder / directory.CHECKPOINT).unlink(missing_ok=True)
    directory.write_metrics(folder, metrics)


def metrics_of(
    run: directory.Run,
    outcome: RunOutcome,
    seconds: float,
    versions: dict[str, str],
    loading_seconds: float = 0.0,
    devices: "Sequence[jax.Device] | None" = None,
) -> dict[str, Any]:
    """Returns the content of `metrics.json`."""
    validation = outcome.validation
    kept = (outcome.state.memories or {}).get("KeepBest")
    return {
        "dataset": run.dataset,
        "preset": run.preset,
        "seed": run.seed,
        "epochs": len(outcome.history),
        **({} if kept is None else {"best_epoch": int(kept.epoch)}),
        "parameters": run.config.model.num_params,
        "parameters_sha256": results.parameters_sha256(outcome.state.eval_params),
        "train": pipeline.summary(outcome.train),
        "validation": None if validation is None else pipeline.summary(validation),
        "test": {**pipeline.summary(outcome.test), "confusion": outcome.test.confusion.tolist()},
        "seconds": round(seconds, 3),
        "seconds_loading": round(loading_seconds, 3),
        "seconds_compiling": round(outcome.compile_seconds, 3),
        "seconds_training": round(sum(record.seconds for record in outcome.history), 3),
        "seconds_scoring": round(outcome.scoring_seconds, 3),
        "seconds_proving": round(outcome.proving_seconds, 3),
        "device": provenance.device(devices),
        "versions": versions,
        "onnx": None if outcome.parity is None else finite(outcome.parity._asdict()),
    }
