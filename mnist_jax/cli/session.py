"""One training run in its directory: where it begins, what it leaves after each epoch and at its end."""

import functools
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mnist_jax import machine, results, runs
from mnist_jax.cli import console, experiment, interrupts, progress
from mnist_jax.cli.experiment import Begin, Outcome
from mnist_jax.errors import CheckpointError, DivergenceError

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset
    from mnist_jax.loop import EpochRecord
    from mnist_jax.train import TrainState


def newest(folder: Path, run: runs.Run) -> Begin:
    """The newest good checkpoint in a run directory; the run's very beginning where there is none yet.

    Raises:
        CheckpointError: every checkpoint there is damaged, or is another run's; says why of the older one,
            after a note on the newer.
    """
    from mnist_jax import checkpoint

    path = folder / runs.CHECKPOINT
    previous = checkpoint.previous_path(path)
    if path.exists():
        try:
            return _read(path, run)
        except CheckpointError as error:
            if not previous.exists():
                raise
            console.note(f"going back to {previous.name}: {error}")
    return _read(previous, run) if previous.exists() else Begin()


def _read(path: Path, run: runs.Run) -> Begin:
    import jax

    from mnist_jax import checkpoint
    from mnist_jax.train import init_state

    skeleton = jax.eval_shape(functools.partial(init_state, run.config), jax.random.key(0))
    state, metadata = checkpoint.load(path, skeleton)
    experiment.check_origin(path, metadata, run)
    try:
        history = tuple(results.record_from(record) for record in metadata["history"])
        if [record.epoch for record in history] != list(range(1, len(history) + 1)):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError(f"{path} is damaged: its metadata has no history") from None
    return Begin(state, history)


def complete(
    folder: Path,
    run: runs.Run,
    data: "Dataset",
    versions: dict[str, str],
    started: float,
    begin: Begin = Begin(),
    checkpoint_every: int = 1,
) -> tuple[Outcome, dict[str, Any]]:
    """Trains in a directory that is this process's, and writes all results; gives them and `metrics.json`.

    Raises:
        DivergenceError: the last finite state is in the directory.
    """
    outcome = _train(folder, run, data, begin, checkpoint_every, versions)
    found = _metrics(run, outcome, time.perf_counter() - started, versions)
    _write(folder, outcome, found)
    return outcome, found


def _train(
    folder: Path,
    run: runs.Run,
    data: "Dataset",
    begin: Begin,
    checkpoint_every: int,
    versions: dict[str, str],
) -> Outcome:
    """Trains, with a checkpoint every so many epochs and at the end, and then scores, exports and proves.

    What the directory says stays as it is until there is a new checkpoint to say it of.

    Raises:
        DivergenceError: the last finite state is in the directory.
    """
    history = list(begin.history)
    with progress.epochs(run.config.epochs, len(history)) as show, interrupts.graceful() as asked_to_stop:

        def after_epoch(record: "EpochRecord", state: "TrainState") -> bool:
            history.append(record)
            show(record)
            stop = asked_to_stop()
            if stop or record.epoch == run.config.epochs or record.epoch % checkpoint_every == 0:
                _save(folder, run, state, history, versions)
            return stop

        try:
            outcome = experiment.perform(run, data, begin, after_epoch)
        except DivergenceError as error:
            if begin.state is None or len(history) > len(begin.history):
                _save(folder, run, error.state, history, versions)
            message = f"{error}; the last finite state is in {folder}"
            raise DivergenceError(message, error.state, history) from None
    return outcome


def _save(
    folder: Path,
    run: runs.Run,
    state: "TrainState",
    history: "list[EpochRecord]",
    versions: dict[str, str],
) -> None:
    """Writes the checkpoint, and what goes with it; the scores of an earlier state go.

    They go once there is a checkpoint that they are not of: so a full disk costs nothing. After a kill in
    between, `results.read_metrics` sees whose they are.
    """
    from mnist_jax import checkpoint

    runs.write_config(folder, run, versions)
    metadata = {"run": runs.to_json(run), "history": [asdict(record) for record in history]}
    checkpoint.save(folder / runs.CHECKPOINT, state, metadata)
    (folder / runs.METRICS).unlink(missing_ok=True)
    runs.write_history(folder, history)


def _write(folder: Path, outcome: Outcome, metrics: dict[str, Any]) -> None:
    """Writes a run's results; `metrics.json` last, since it says that the run is done."""
    import mnist_onnx
    from mnist_jax import checkpoint

    mnist_onnx.save(outcome.model, folder / runs.MODEL)
    runs.write_history(folder, outcome.history)  # a kill after the last checkpoint has left an earlier one
    checkpoint.previous_path(folder / runs.CHECKPOINT).unlink(missing_ok=True)
    runs.write_metrics(folder, metrics)


def _metrics(run: runs.Run, outcome: Outcome, seconds: float, versions: dict[str, str]) -> dict[str, Any]:
    """The content of `metrics.json`."""
    validation = outcome.validation
    return {
        "dataset": run.dataset,
        "preset": run.preset,
        "seed": run.seed,
        "epochs": len(outcome.history),
        "parameters": run.config.model.parameters,
        "parameters_sha256": results.parameters_sha256(outcome.state.eval_params),
        "train": experiment.summary(outcome.train),
        "validation": None if validation is None else experiment.summary(validation),
        "test": {**experiment.summary(outcome.test), "confusion": outcome.test.confusion.tolist()},
        "seconds": round(seconds, 3),
        "seconds_compiling": round(outcome.compile_seconds, 3),
        "seconds_training": round(sum(record.seconds for record in outcome.history), 3),
        "device": machine.device(),
        "versions": versions,
        "onnx": console.finite(outcome.parity._asdict()),
    }


def conclude(folder: Path, run: runs.Run, outcome: Outcome) -> None:
    """Says how a stopped run goes on; ends with exit code 1 where the ONNX file is not proven."""
    done = len(outcome.history)
    if done < run.config.epochs:
        how = f"mnist-jax train --resume {shlex.quote(str(folder))}"
        console.note(f"stopped after {done} of {run.config.epochs} epochs; go on with: {how}")
    if not outcome.parity.passed:
        raise typer.Exit(1)


def show(folder: Path, metrics: dict[str, Any]) -> None:
    """Prints a run's results."""
    for name in ("train", "validation", "test"):
        if scores := metrics[name]:
            console.line(name, console.score(scores))
    console.line("ONNX", console.proof(metrics["onnx"]))
    console.line("time", f"{metrics['seconds']:.1f} s on {metrics['device']}")
    console.line("data", metrics["dataset"])
    console.line("run", str(folder))
