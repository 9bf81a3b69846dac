"""`mnist-jax ensemble`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.text import finite, percent
from mnist_jax.cli import console, options
from mnist_jax.cli.datasets import load_of
from mnist_jax.runs import results
from mnist_jax.runs.loading import load_networks, read_runs
from mnist_jax.runs.pipeline import accuracy, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnist_jax.config.networks import Spec
    from mnist_jax.data.datasets import Dataset
    from mnist_jax.evaluation.evaluate import Evaluation
    from mnist_jax.runs.directory import Run
    from mnist_jax.types import Params


def ensemble(
    run_dirs: options.RunDirs,
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="The ONNX file to write.")] = Path(
        "ensemble.onnx"
    ),
    data_dir: options.DataPath = None,
    platform: options.Platform = None,
    as_json: options.Json = False,
) -> None:
    """Join the networks of several runs into one ONNX file, which averages their logits.

    The file is scored on the test set and compared with JAX first. If they differ, it is not written, and
    the exit code is 1.

    Example: mnist-jax ensemble runs/first runs/second runs/third --out ensemble.onnx
    """
    out = options.onnx(out)
    runs = read_runs("ensemble", run_dirs)

    from mnist_jax._utils.process_setup import start_jax

    start_jax()
    import mnist_onnx
    from mnist_jax.config.networks import member_name

    spec, params = load_networks(run_dirs, runs)
    data = load_of(runs[0], data_dir)
    test, validation = _evaluate(spec, params, data, runs)
    metadata = {
        "dataset": data.name,
        "dataset_sha256": data.sha256,
        "preset": " + ".join(run.preset for run in runs),
        "test_accuracy": str(accuracy(test)),
    }
    model = mnist_onnx.to_onnx(spec, params, classes=data.classes, metadata=metadata)
    parity = mnist_onnx.check_parity(spec, params, model, data.test.images)
    result = {
        "file": str(out),
        "dataset": data.name,
        "members": [
            {"run": str(folder), **_accuracies(folder, params[member_name(index)])}
            for index, folder in enumerate(run_dirs)
        ],
        "parameters": spec.num_params,
        "validation": None if validation is None else summary(validation),
        "test": {**summary(test), "confusion": test.confusion.tolist()},
        "onnx": finite(parity._asdict()),
    }
    if parity.passed:
        mnist_onnx.save(model, out)
    if as_json:
        console.print_json(result)
    else:
        _show(result)
    if not parity.passed:
        console.print_error("the file must pass the parity check; it did not, and was not written")
        raise typer.Exit(1)


def _evaluate(
    spec: "Spec", params: "Params", data: "Dataset", runs: "Sequence[Run]"
) -> "tuple[Evaluation, Evaluation | None]":
    """Evaluates on the test set, and on the validation set if no member was trained on it."""
    from mnist_jax.evaluation.evaluate import evaluate

    test = evaluate(spec, params, data.test)
    same_split = len({run.validation_fraction for run in runs}) == 1
    if data.validation is None or not same_split:
        return test, None
    return test, evaluate(spec, params, data.validation)


def _accuracies(folder: Path, params: "Params") -> dict[str, float | None]:
    """Reads a run's own accuracies; None where it is unfinished or has no such set."""
    from mnist_jax.errors import RunError

    try:
        scores = results.read_metrics(folder, params)
    except RunError:
        scores = {}
    return {name: _accuracy(scores.get(name)) for name in ("validation", "test")}


def _accuracy(scores: Any) -> float | None:
    try:
        return float(scores["accuracy"])
    except (KeyError, TypeError, ValueError):
        return None


def _show(result: dict[str, Any]) -> None:
    for member in result["members"]:
        score = "" if member["test"] is None else f": test {percent(member['test'])}"
        console.line("member", f"{member['run']}{score}")
    for name in ("validation", "test"):
        if scores := result[name]:
            console.line(name, console.score(scores))
    console.line("ONNX", console.proof(result["onnx"]))
    console.line("data", result["dataset"])
    if result["onnx"]["passed"]:
        console.line("file", result["file"])
