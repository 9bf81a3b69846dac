"""`mnist-jax ensemble`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax import results
from mnist_jax.cli import console, options
from mnist_jax.cli.experiment import accuracy, load_for, load_together, read_together, summary

if TYPE_CHECKING:
    from mnist_jax.types import Params


def ensemble(
    run_dirs: options.RunDirs,
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="Where the file goes.")] = Path(
        "ensemble.onnx"
    ),
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Join the networks of several runs into one ONNX file, which answers with the mean of their logits.

    The file is scored on the test set and proven equal to JAX first. If it is not, it is not written, and
    the exit code is 1.

    Example: mnist-jax ensemble runs/first runs/second runs/third --out ensemble.onnx
    """
    out = options.onnx(out)
    asked = read_together("ensemble", run_dirs)

    from mnist_jax.cli.process import start_jax

    start_jax()
    import jax

    import mnist_onnx
    from mnist_jax.evaluation import evaluate
    from mnist_jax.networks import member_name

    spec, params = load_together(run_dirs, asked)
    data = load_for(asked[0], data_dir)
    score = jax.jit(evaluate, static_argnums=0)
    test = score(spec, params, data.test)
    # What one of them has trained on can't be held out for all.
    held_out = data.validation if len({run.validation_fraction for run in asked}) == 1 else None
    validation = None if held_out is None else score(spec, params, held_out)
    facts = {
        "dataset": data.name,
        "dataset_sha256": data.sha256,
        "preset": " + ".join(run.preset for run in asked),
        "test_accuracy": str(accuracy(test)),
    }
    model = mnist_onnx.to_onnx(spec, params, classes=data.classes, facts=facts)
    proof = mnist_onnx.parity(spec, params, model, data.test.images)
    found = {
        "file": str(out),
        "dataset": data.name,
        "members": [
            {"run": str(folder), **_accuracies(folder, params[member_name(index)])}
            for index, folder in enumerate(run_dirs)
        ],
        "parameters": spec.parameters,
        "validation": None if validation is None else summary(validation),
        "test": {**summary(test), "confusion": test.confusion.tolist()},
        "onnx": console.finite(proof._asdict()),
    }
    if proof.passed:
        mnist_onnx.save(model, out)
    if as_json:
        console.print_json(found)
    else:
        _show(found)
    if not proof.passed:
        console.complain("nothing was written: the file does not answer as it must")
        raise typer.Exit(1)


def _accuracies(folder: Path, params: "Params") -> dict[str, float | None]:
    """What a run says of its own network; None if it was not finished or has no such set."""
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


def _show(found: dict[str, Any]) -> None:
    for member in found["members"]:
        alone = "" if member["test"] is None else f": test {console.percent(member['test'])}"
        console.line("member", f"{member['run']}{alone}")
    for name in ("validation", "test"):
        if scores := found[name]:
            console.line(name, console.score(scores))
    console.line("ONNX", console.proof(found["onnx"]))
    console.line("data", found["dataset"])
    if found["onnx"]["passed"]:
        console.line("file", found["file"])
