"""`mnist-jax evaluate`."""

from pathlib import Path
from typing import Any

from mnist_jax.cli import console, options
from mnist_jax.cli.datasets import load_of
from mnist_jax.errors import RunError
from mnist_jax.runs import directory
from mnist_jax.runs.pipeline import summary


def evaluate(
    run_dir: options.RunDir,
    dataset: options.TestSetName = None,
    data_dir: options.DataPath = None,
    platform: options.Platform = None,
    as_json: options.Json = False,
) -> None:
    """Score a trained network on every image of a test set.

    Example: mnist-jax evaluate runs/my-run --json
    """
    run = directory.read(run_dir)

    from mnist_jax._utils.process_setup import start_jax

    start_jax()
    from mnist_jax.data.datasets import load
    from mnist_jax.evaluation.evaluate import evaluate as evaluate_network
    from mnist_jax.evaluation.metrics import class_scores
    from mnist_jax.runs.loading import load_params

    params = load_params(run_dir, run)
    data = load_of(run, data_dir) if dataset is None else load(dataset, data_dir)
    if len(data.classes) != run.config.model.num_classes:
        raise RunError(
            f"{data.name} must have the network's {run.config.model.num_classes} classes; "
            f"it has {len(data.classes)}"
        )
    evaluation = evaluate_network(run.config.model, params, data.test)
    scores = class_scores(evaluation.confusion)
    result = {
        "dataset": data.name,
        **summary(evaluation),
        "confusion": evaluation.confusion.tolist(),
        "classes": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f)}
            for name, p, r, f in zip(data.classes, *scores, strict=True)
        },
    }
    if as_json:
        console.print_json(result)
    else:
        _show(run_dir, result)


def _show(run_dir: Path, result: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    names = list(result["classes"])
    table = Table(title="Rows: true class; columns: prediction", box=None, title_justify="left")
    for heading in ("", *names, "prec.", "recall", "F1"):
        table.add_column(heading, justify="right")
    for index, (name, row) in enumerate(zip(names, result["confusion"], strict=True)):
        counts = [Text(str(n or "·"), "bold" if i == index else "") for i, n in enumerate(row)]
        scores = [f"{score:.4f}" for score in result["classes"][name].values()]
        table.add_row(name, *counts, *scores)
    out = console.results()
    out.print(f"{run_dir} on the test set of {result['dataset']}: {console.score(result)}\n")
    out.print(table)
