"""Train, score, export, prove: what `train` and `reproduce` have in common."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax.runs import Run

if TYPE_CHECKING:
    import onnx

    from mnist_jax.datasets import Dataset
    from mnist_jax.evaluation import Evaluation
    from mnist_jax.train import EpochRecord, TrainState
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
    from mnist_jax.train import fit
    from mnist_onnx.proof import parity

    result = fit(
        run.config,
        data.train,
        data.validation,
        key=jax.random.key(run.seed) if begin.state is None else None,
        state=begin.state,
        hyper=run.hyper,
        callback=callback,
    )
    spec, params = run.config.model, result.state.params
    score = jax.jit(evaluate, static_argnums=0)
    test = score(spec, params, data.test)
    model = export_run(run, params, test_accuracy=accuracy(test), classes=data.classes)
    return Outcome(
        state=result.state,
        history=(*begin.history, *result.history),
        compile_seconds=result.compile_seconds,
        train=score(spec, params, data.train),
        validation=None if data.validation is None else score(spec, params, data.validation),
        test=test,
        model=model,
        parity=parity(spec, params, model, data.test.images),
    )


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
    """An evaluation as `metrics.json` has it."""
    return {"accuracy": accuracy(evaluation), "loss": float(evaluation.loss), "n": int(evaluation.n)}
