"""The pipeline that commands share: train, evaluate, export, check parity."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.training import MONITORS
from mnist_jax.errors import CheckpointError, DivergenceError
from mnist_jax.runs.directory import Run

if TYPE_CHECKING:
    import jax
    import onnx

    from mnist_jax.data.datasets import Dataset
    from mnist_jax.evaluation.evaluate import Evaluation
    from mnist_jax.training.records import EpochRecord, FitResult
    from mnist_jax.training.state import TrainState
    from mnist_jax.types import Params
    from mnist_onnx.parity import Parity


class StartState(NamedTuple):
    """Where training starts.

    Attributes:
        state: the state to resume from; None to start from the run's seed.
        history: the records of the epochs that led to `state`.
    """

    state: "TrainState | None" = None
    history: "tuple[EpochRecord, ...]" = ()


class RunOutcome(NamedTuple):
    """The result of a run.

    Attributes:
        state: the last training state.
        history: the records of all epochs, including those before a resume.
        compile_seconds: wall time of compilation, in seconds.
        train: evaluation on the training set.
        validation: evaluation on the validation set; None without one.
        test: evaluation on the test set.
        model: the exported ONNX model; None for a `FlaxModel`, and in all processes but the first.
        parity: the parity check of `model` against JAX.
        scoring_seconds: wall time of the evaluation.
        proving_seconds: wall time of export and parity check.
    """

    state: "TrainState"
    history: "tuple[EpochRecord, ...]"
    compile_seconds: float
    train: "Evaluation"
    validation: "Evaluation | None"
    test: "Evaluation"
    model: "onnx.ModelProto | None"
    parity: "Parity | None"
    scoring_seconds: float
    proving_seconds: float


def train_and_export(
    run: Run,
    data: "Dataset",
    start: StartState = StartState(),
    callback: "Callable[[EpochRecord, TrainState], bool | None] | None" = None,
    say: Callable[[str], None] = lambda text: None,
    devices: "Sequence[jax.Device] | None" = None,
) -> RunOutcome:
    """Trains, evaluates, exports and checks parity; uses the test set once, after training.

    Of several processes all take part in training and evaluation, and the first exports.

    Args:
        run: the run's configuration.
        data: its data set.
        start: where training starts.
        callback: called after each epoch, as by `fit`.
        say: called with what is done after training.
        devices: as for `fit`.

    Raises:
        DivergenceError: the loss or a parameter became NaN or infinite. It holds the last finite state.
    """
    import jax

    from mnist_jax.parallel.processes import local
    from mnist_jax.training.loop import fit

    result = fit(
        run.config,
        data.train,
        data.validation,
        key=jax.random.key(run.seed, impl=run.prng_impl) if start.state is None else None,
        state=start.state,
        hyperparams=run.hyperparams,
        callback=[*callbacks_of(run), *([] if callback is None else [callback])],
        devices=devices,
    )
    result = result._replace(state=local(result.state))
    return score_and_export(run, data, result, start.history, say, devices)


def score_and_export(
    run: Run,
    data: "Dataset",
    result: "FitResult",
    history: "tuple[EpochRecord, ...]" = (),
    say: Callable[[str], None] = lambda text: None,
    devices: "Sequence[jax.Device] | None" = None,
) -> RunOutcome:
    """Evaluates a trained network, exports it and checks parity; a `FlaxModel` is not exported.

    Args:
        run: the run's configuration.
        data: its data set.
        result: of `fit`.
        history: the records of the epochs before `result`.
        say: called with what is done.
        devices: as for `evaluate`.

    Raises:
        DivergenceError: a loss is NaN or infinite.
    """
    from mnist_jax.evaluation.evaluate import evaluate
    from mnist_jax.parallel.mesh import as_mesh
    from mnist_jax.parallel.processes import is_main

    spec, params, started = run.config.model, result.params, time.perf_counter()
    say("scoring the network")
    try:
        score = functools.partial(evaluate, spec, params, loss=run.config.loss, devices=as_mesh(devices))
        train, test = score(data.train), score(data.test)
        validation = None if data.validation is None else score(data.validation)
        scores = [scored for scored in (train, validation, test) if scored is not None]
        finite = all(math.isfinite(scored.loss) for scored in scores)
    except FloatingPointError:  # raised by JAX under jax_debug_nans
        finite = False
    if not finite:
        message = (
            "the trained network's loss must be finite; got NaN or infinity; try a smaller learning rate"
        )
        raise DivergenceError(message, result.state, result.history)
    model, parity, scored = None, None, time.perf_counter()
    if not isinstance(spec, FlaxModel) and is_main():
        say("comparing its ONNX file with JAX")
        model, parity = _export_and_check(run, params, test, data)
    return RunOutcome(
        state=result.state,
        history=(*history, *result.history),
        compile_seconds=result.compile_seconds,
        train=train,
        validation=validation,
        test=test,
        model=model,
        parity=parity,
        scoring_seconds=scored - started,
        proving_seconds=time.perf_counter() - scored,
    )


def callbacks_of(run: Run) -> "list[Any]":
    """The callbacks with a memory that a run's configuration asks for."""
    from mnist_jax.training.callbacks import EarlyStopping, KeepBest

    monitor = run.monitor or MONITORS[0]
    callbacks: list[Any] = [KeepBest(monitor)] if run.keep_best else []
    return callbacks + ([] if run.early_stopping is None else [EarlyStopping(monitor, run.early_stopping)])


def stopped_early(run: Run, state: "TrainState", epochs: int) -> bool:
    """Whether early stopping ended a run after this number of epochs."""
    from mnist_jax.training.callbacks.running import is_finished

    return is_finished(callbacks_of(run), state, epochs)


def _export_and_check(
    run: Run, params: "Params", test: "Evaluation", data: "Dataset"
) -> "tuple[onnx.ModelProto, Parity]":
    """Exports a trained network, and checks parity on the whole test set."""
    from mnist_onnx.parity import check_parity

    model = export_run(run, params, test_accuracy=accuracy(test), classes=data.classes)
    return model, check_parity(run.config.model, params, model, data.test.images)


class SeedResult(NamedTuple):
    """One of several networks that differ only in their seed.

    Attributes:
        seed: the network's seed.
        params: its trained parameters.
        seconds: training time; the network's share where several were trained together.
        test: evaluation on the test set.
        parity: the parity check of its ONNX model.
    """

    seed: int
    params: "Params"
    seconds: float
    test: "Evaluation"
    parity: "Parity"


def train_seeds(
    run: Run, data: "Dataset", seeds: Sequence[int], devices: "Sequence[jax.Device] | None" = None
) -> "Iterator[SeedResult]":
    """Trains, evaluates and checks one network per seed, in groups that suit the device; writes no files."""
    import jax
    import numpy as np

    from mnist_jax.evaluation.evaluate import evaluate
    from mnist_jax.training.sweep import default_group_size, fit_many

    spec, group = run.config.model, default_group_size(run.config)
    at_once = group * (1 if devices is None else len(devices))
    for first in range(0, len(seeds), at_once):
        group_seeds = seeds[first : first + at_once]
        keys = jax.vmap(functools.partial(jax.random.key, impl=run.prng_impl))(
            np.array(group_seeds, np.uint32)
        )
        many = fit_many(
            run.config,
            data.train,
            keys=keys,
            hyperparams=run.hyperparams,
            group_size=group,
            devices=devices,
        )
        for index, seed in enumerate(group_seeds):
            params = many.member(index)
            test = evaluate(spec, params, data.test, loss=run.config.loss)
            _, parity = _export_and_check(replace(run, seed=seed), params, test, data)
            seconds = sum(record.seconds for record in many.histories[index])
            yield SeedResult(seed, params, seconds, test, parity)


def export_run(
    run: Run, params: Any, *, test_accuracy: float | None, classes: Any, **options: Any
) -> "onnx.ModelProto":
    """Exports a run's network to ONNX, with the data set, preset and accuracy in its metadata."""
    from mnist_onnx.export import to_onnx

    metadata = {"dataset": run.dataset, "dataset_sha256": run.dataset_sha256, "preset": run.preset}
    if test_accuracy is not None:
        metadata["test_accuracy"] = str(test_accuracy)
    return to_onnx(run.config.model, params, classes=classes, metadata=metadata, **options)


def accuracy(evaluation: "Evaluation") -> float:
    """Returns the accuracy in double precision."""
    confusion = evaluation.confusion
    return float(confusion.trace()) / int(evaluation.n)


def summary(evaluation: "Evaluation") -> dict[str, Any]:
    """Returns an evaluation as it is stored in `metrics.json`.

    Raises:
        CheckpointError: the loss is not finite, which JSON cannot represent.
    """
    if not math.isfinite(loss := float(evaluation.loss)):
        raise CheckpointError(
            f"a network's loss must be a finite number; got {loss:g}: its parameters are too large; train it "
            "again with a smaller learning rate"
        )
    return {"accuracy": accuracy(evaluation), "loss": loss, "n": int(evaluation.n)}
