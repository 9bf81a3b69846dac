"""`mnist-jax evaluate`."""

from pathlib import Path
from typing import Any

from mnist_jax import runs
from mnist_jax.cli import console, options
from mnist_jax.cli.experiment import summary


def evaluate(
    run_dir: options.RunDir,
    dataset: options.TestSetName = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Score a trained network on every image of a test set.

    Example: mnist-jax evaluate runs/my-run --json
    """
    run = runs.read(run_dir)

    from mnist_jax.cli.process import start_jax

    start_jax()
    import jax

    from mnist_jax import evaluation
    from mnist_jax.cli.experiment import load_for, load_params
    from mnist_jax.datasets import load
    from mnist_jax.metrics import class_scores

    params = load_params(run_dir, run)
    data = load_for(run, data_dir) if dataset is None else load(dataset, data_dir)
    result = jax.jit(evaluation.evaluate, static_argnums=0)(run.config.model, params, data.test)
    scores = class_scores(result.confusion)
    found = {
        "dataset": data.name,
        **summary(result),
        "confusion": result.confusion.tolist(),
        "classes": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f)}
            for name, p, r, f in zip(data.classes, *scores, strict=True)
        },
    }
    if as_json:
        console.print_json(found)
    else:
        _show(run_dir, found)


def _show(run_dir: Path, found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    names = list(found["classes"])
    table = Table(title="Row: true class; column: answer", box=None, title_justify="left")
    for heading in ("", *names, "prec.", "recall", "F1"):
        table.add_column(heading, justify="right")
    for index, (name, row) in enumerate(zip(names, found["confusion"], strict=True)):
        counts = [Text(str(n or "·"), "bold" if i == index else "") for i, n in enumerate(row)]
        scores = [f"{score:.4f}" for score in found["classes"][name].values()]
        table.add_row(name, *counts, *scores)
    out = console.results()
    out.print(f"{run_dir} on {found['dataset']}'s test set: {console.score(found)}\n")
    out.print(table)
