"""Train, score, export, prove: what commands have in common."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax.cli import console
from mnist_jax.errors import CheckpointError, DatasetError, DatasetUnavailableError, DivergenceError, RunError
from mnist_jax.networks import Ensemble, Spec
from mnist_jax.runs import CHECKPOINT, Run, read, to_json
from mnist_jax.settings import shorten

if TYPE_CHECKING:
    import onnx

    from mnist_jax.datasets import Dataset
    from mnist_jax.evaluation import Evaluation
    from mnist_jax.loop import EpochRecord
    from mnist_jax.train import TrainState
    from mnist_jax.types import Params
    from mnist_onnx.proof import Parity


class Begin(NamedTuple):
    """Where a run begins: at its seed, or at a state with the history that led there."""

    state: "TrainState | None" = None
    history: "tuple[EpochRecord, ...]" = ()


class Outcome(NamedTuple):
    """A trained network and what is known of it."""

    state: "TrainState"
    history: "tuple[EpochRecord, ...]"
    compile_seconds: float
    train: "Evaluation"
    validation: "Evaluation | None"
    test: "Evaluation"
    model: "onnx.ModelProto"
    parity: "Parity"


def perform(
    run: Run,
    data: "Dataset",
    begin: Begin = Begin(),
    callback: "Callable[[EpochRecord, TrainState], bool | None] | None" = None,
) -> Outcome:
    """Does a whole run; the test set is looked at once, after training."""
    import jax

    from mnist_jax.evaluation import evaluate
    from mnist_jax.loop import fit

    result = fit(
        run.config,
        data.train,
        data.validation,
        key=jax.random.key(run.seed, impl=run.prng_impl) if begin.state is None else None,
        state=begin.state,
        hyper=run.hyper,
        callback=callback,
    )
    spec, params = run.config.model, result.params
    score = jax.jit(evaluate, static_argnums=0)
    try:
        train, test = score(spec, params, data.train), score(spec, params, data.test)
        validation = None if data.validation is None else score(spec, params, data.validation)
        finite = all(math.isfinite(found.loss) for found in (train, validation, test) if found is not None)
    except FloatingPointError:  # of JAX's own check, where jax_debug_nans asks for it
        finite = False
    if not finite:
        message = "the trained network's loss is not a finite number; try a smaller learning rate"
        raise DivergenceError(message, result.state, result.history)
    model, proof = _proven(run, params, test, data)
    return Outcome(
        state=result.state,
        history=(*begin.history, *result.history),
        compile_seconds=result.compile_seconds,
        train=train,
        validation=validation,
        test=test,
        model=model,
        parity=proof,
    )


def _proven(
    run: Run, params: "Params", test: "Evaluation", data: "Dataset"
) -> "tuple[onnx.ModelProto, Parity]":
    """A trained network's ONNX file, and its proof on the whole test set."""
    from mnist_onnx.proof import parity

    model = export_run(run, params, test_accuracy=accuracy(test), classes=data.classes)
    return model, parity(run.config.model, params, model, data.test.images)


class Trained(NamedTuple):
    """One of several networks that differ in their seed alone.

    Attributes:
        seed: its own.
        params: what was trained.
        seconds: of training; of networks trained together, its share.
        test: its score on the test set, the one look at it.
        parity: of its ONNX file.
    """

    seed: int
    params: "Params"
    seconds: float
    test: "Evaluation"
    parity: "Parity"


def perform_seeds(run: Run, data: "Dataset", seeds: Sequence[int]) -> "Iterator[Trained]":
    """Does a run from each of these seeds, as many at once as suits the device; keeps nothing of it."""
    import jax
    import numpy as np

    from mnist_jax.evaluation import evaluate
    from mnist_jax.sweep import fit_many, suitable

    spec, group = run.config.model, suitable(run.config)
    score = jax.jit(evaluate, static_argnums=0)
    for first in range(0, len(seeds), group):
        taken = seeds[first : first + group]
        keys = jax.vmap(functools.partial(jax.random.key, impl=run.prng_impl))(np.array(taken, np.uint32))
        many = fit_many(run.config, data.train, keys=keys, hyper=run.hyper, at_once=group)
        for index, seed in enumerate(taken):
            params = many.member(index)
            test = score(spec, params, data.test)
            _, proof = _proven(replace(run, seed=seed), params, test, data)
            seconds = sum(record.seconds for record in many.histories[index])
            yield Trained(seed, params, seconds, test, proof)


def load_for(run: Run, data_dir: Path | None) -> "Dataset":
    """The data set that a run was begun with.

    Raises:
        DatasetError: what is there now is another.
    """
    from mnist_jax.datasets import load

    data = load(run.dataset, data_dir, validation_fraction=run.validation_fraction)
    if data.sha256 != run.dataset_sha256:
        raise DatasetError(
            f"the run must have the {run.dataset} it began with, sha256 {run.dataset_sha256}; "
            f"got sha256 {data.sha256}"
        )
    return data


def read_together(command: str, folders: Sequence[Path]) -> list[Run]:
    """Two runs or more, on the same data.

    Raises:
        RunError: they are fewer, one is named twice, or the data differ; or as `runs.read`.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise RunError(f"{command} needs two or more different runs; got {', '.join(map(str, folders))}")
    found = [read(folder) for folder in folders]
    for folder, run in zip(folders, found, strict=True):
        if run.dataset_sha256 != found[0].dataset_sha256:
            raise RunError(
                f"{command} needs runs on the same data; {folders[0]} is on {found[0].dataset}, "
                f"{folder} on {'another ' * (run.dataset == found[0].dataset)}{run.dataset}"
            )
    return found


def load_or_digits(dataset: str | None, data_dir: Path | None, fraction: float) -> "Dataset":
    """The named data set; if none is named, MNIST, and `digits` only where MNIST can't be had."""
    from mnist_jax.datasets import load

    if dataset is not None:
        return load(dataset, data_dir, validation_fraction=fraction)
    try:
        return load("mnist", data_dir, validation_fraction=fraction)
    except DatasetUnavailableError as error:
        console.note("WARNING: training on `digits`, a small built-in data set, instead of MNIST.")
        console.note(f"The scores below are not MNIST's: {error}")
        return load("digits", validation_fraction=fraction)


def load_params(folder: Path, run: Run) -> dict[str, Any]:
    """A run's parameters, once its checkpoint and its config are known to belong together.

    Raises:
        CheckpointError: damaged, or another run's.
    """
    from mnist_jax import checkpoint

    params, metadata = checkpoint.load_params(folder / CHECKPOINT)
    check_origin(folder / CHECKPOINT, metadata, run)
    return params


def load_together(folders: Sequence[Path], runs: Sequence[Run]) -> "tuple[Spec, Params]":
    """The network of a run, or of several the ensemble.

    Raises:
        CheckpointError: as `load_params`.
        SpecError: their networks have several outputs.
    """
    from mnist_jax.models import ensemble_params

    networks = tuple(run.config.model for run in runs)
    spec = Ensemble(networks) if len(networks) > 1 else networks[0]
    params = [load_params(folder, run) for folder, run in zip(folders, runs, strict=True)]
    return spec, ensemble_params(params) if len(params) > 1 else params[0]


def check_origin(path: Path, metadata: dict[str, Any], run: Run) -> None:
    """Checks that a checkpoint was written by this run; only the number of epochs may differ.

    Raises:
        CheckpointError: names the first setting that differs.
    """
    ours, theirs = flat(to_json(run)), flat(metadata.get("run"))
    for name in sorted(set(ours) | set(theirs)):
        if name != "config.epochs" and ours.get(name) != theirs.get(name):
            raise CheckpointError(
                f"{path} and config.json must be of one run: in the checkpoint {name} is "
                f"{shorten(theirs.get(name))}; got {shorten(ours.get(name))}"
            )


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """`{"config": {"epochs": 3}}` to `{"config.epochs": 3}`."""
    if not isinstance(values, dict):
        return {prefix.rstrip("."): values}
    return {
        key: leaf for name, value in values.items() for key, leaf in flat(value, f"{prefix}{name}.").items()
    }


def export_run(
    run: Run, params: Any, *, test_accuracy: float | None, classes: Any, **options: Any
) -> "onnx.ModelProto":
    """The run's network as ONNX, with its history in the metadata."""
    from mnist_onnx.graph import to_onnx

    facts = {"dataset": run.dataset, "dataset_sha256": run.dataset_sha256, "preset": run.preset}
    if test_accuracy is not None:
        facts["test_accuracy"] = str(test_accuracy)
    return to_onnx(run.config.model, params, classes=classes, facts=facts, **options)


def accuracy(evaluation: "Evaluation") -> float:
    """The share of right answers, in double precision."""
    confusion = evaluation.confusion
    return float(confusion.trace()) / int(evaluation.n)


def summary(evaluation: "Evaluation") -> dict[str, Any]:
    """An evaluation as `metrics.json` has it.

    Raises:
        CheckpointError: the loss is no number that JSON can hold.
    """
    if not math.isfinite(loss := float(evaluation.loss)):
        raise CheckpointError(
            f"a network's loss must be a finite number; got {loss:g}: its parameters are too large; train it "
            "again with a smaller learning rate"
        )
    return {"accuracy": accuracy(evaluation), "loss": loss, "n": int(evaluation.n)}
