"""Train, score, export, prove: what `train` and `reproduce` have in common."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax.runs import Run

if TYPE_CHECKING:
    import onnx

    from mnist_jax.datasets import Dataset
    from mnist_jax.evaluation import Evaluation
    from mnist_jax.train import EpochRecord, Fit, TrainState
    from mnist_onnx.proof import Parity


class Outcome(NamedTuple):
    """A trained network and what is known of it."""

    fit: "Fit"
    train: "Evaluation"
    validation: "Evaluation | None"
    test: "Evaluation"
    model: "onnx.ModelProto"
    parity: "Parity"


def describe(name: str, data: "Dataset", run: Run) -> str:
    """A run in one line."""
    return f"{name} on {data.name}: {run.config.model}, {run.config.model.parameters:,} parameters"


def perform(
    run: Run, data: "Dataset", callback: "Callable[[EpochRecord, TrainState], None] | None" = None
) -> Outcome:
    """Does a whole run; the test set is looked at once, after training."""
    import jax

    from mnist_jax.evaluation import evaluate
    from mnist_jax.train import fit
    from mnist_onnx.proof import parity

    spec = run.config.model
    result = fit(
        run.config,
        data.train,
        data.validation,
        key=jax.random.key(run.seed),
        hyper=run.hyper,
        callback=callback,
    )
    score = jax.jit(evaluate, static_argnums=0)
    params = result.state.params
    test = score(spec, params, data.test)
    model = export_run(run, params, test_accuracy=accuracy(test), classes=data.classes)
    return Outcome(
        fit=result,
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
