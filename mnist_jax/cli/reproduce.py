"""`mnist-jax reproduce`: what was claimed, and what comes out."""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax import machine, runs
from mnist_jax.cli import console, experiment, options
from mnist_jax.cli.process import default_prng_impl, start_jax
from mnist_jax.files import write_atomic
from mnist_jax.presets import PRESETS, preset
from mnist_jax.settings import check_whole
from mnist_jax.specs import to_json

if TYPE_CHECKING:
    from rich.table import Table

    from mnist_jax.datasets import Dataset

FORMAT = 1
HEADINGS = (
    "preset",
    "network",
    "parameters",
    "epochs",
    "claimed",
    "measured",
    "worst",
    "best",
    "claim met",
    "seconds",
    "ONNX = JAX",
)


def reproduce(
    seeds: Annotated[int, typer.Option(metavar="N", help="Networks per preset: seeds 0 to N-1.")] = 5,
    preset_names: Annotated[
        list[str] | None,
        typer.Option(
            "--preset",
            metavar="P",
            help="One preset; may be repeated. (default: all with a claim)",
            show_default=False,
        ),
    ] = None,
    data_dir: options.DataDir = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Write the result to FILE.json or FILE.md; may be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train presets exactly as their rows say, on MNIST, and compare with what is claimed for them.

    Ends with exit code 1 if an ONNX file differs from JAX. A claim that is not met is a result.

    Example: mnist-jax reproduce --seeds 5 --out table.md --out table.json
    """
    check_whole("seeds", seeds)
    claiming = [name for name, recipe in PRESETS.items() if recipe.claim]
    recipes = {name: preset(name) for name in preset_names or claiming}
    for path in out or []:
        options.check_file(path, ".json", ".md")

    start_jax()
    from mnist_jax.datasets import load

    result: dict[str, Any] = {
        "format": FORMAT,
        "date": time.strftime("%Y-%m-%d"),
        "device": machine.device(),
        "versions": machine.versions(),
        "presets": [],
    }
    for name, recipe in recipes.items():
        data = load("mnist", data_dir, validation_fraction=recipe.validation_fraction)
        networks = _networks(name, data, seeds)
        result |= {"dataset": data.name, "dataset_sha256": data.sha256}
        result["presets"].append(_row(name, networks))
        for path in out or []:  # after each preset, so that what is measured is not lost
            text = _markdown(result) if path.suffix == ".md" else _json(result)
            write_atomic(path, text.encode())
    if as_json:
        console.print_json(result)
    else:
        console.results().print(_table(result))
        console.results().print(_caption(result))
    if not all(row["onnx"]["passed"] for row in result["presets"]):
        raise typer.Exit(1)


def _networks(name: str, data: "Dataset", seeds: int) -> list[dict[str, Any]]:
    """The figures of networks from seeds 0 on."""
    recipe = PRESETS[name]
    facts = data.name, data.sha256, recipe.validation_fraction, default_prng_impl()
    run = runs.Run(name, recipe.config, recipe.hyper, 0, *facts)
    found = []
    for trained in experiment.perform_seeds(run, data, range(seeds)):
        accuracy = experiment.accuracy(trained.test)
        told = f"{console.percent(accuracy)} in {trained.seconds:.1f} s"
        console.note(f"{name}, seed {trained.seed}: {told}")
        found.append(
            {
                "seed": trained.seed,
                "accuracy": accuracy,
                "seconds": round(trained.seconds, 3),
                "onnx": console.finite(trained.parity._asdict()),
            }
        )
    return found


def _row(name: str, networks: list[dict[str, Any]]) -> dict[str, Any]:
    """A preset's line: claimed against measured."""
    recipe = PRESETS[name]
    accuracies = [network["accuracy"] for network in networks]
    mean = statistics.fmean(accuracies)
    proofs = [network["onnx"] for network in networks]
    largest = [proof["max_abs_difference"] for proof in proofs]
    return {
        "preset": name,
        "network": str(recipe.config.model),
        "parameters": recipe.config.model.parameters,
        "config": to_json(recipe.config),
        "hyper": recipe.hyper._asdict(),
        "validation_fraction": recipe.validation_fraction,
        "claim": recipe.claim,
        "mean": mean,
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "worst": min(accuracies),
        "best": max(accuracies),
        "claim_met": None if recipe.claimed is None else mean >= recipe.claimed,
        "seconds": statistics.fmean(network["seconds"] for network in networks),
        "onnx": {
            "passed": all(proof["passed"] for proof in proofs),
            "disagreements": sum(proof["disagreements"] for proof in proofs),
            "max_abs_difference": None if None in largest else max(largest),
        },
        "networks": networks,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["preset"],
        row["network"],
        f"{row['parameters']:,}",
        str(row["config"]["epochs"]),
        row["claim"] or "-",
        console.spread(row["mean"], row["std"]),
        console.percent(row["worst"]),
        console.percent(row["best"]),
        {True: "yes", False: "no", None: "-"}[row["claim_met"]],
        f"{row['seconds']:.1f}",
        f"yes ({row['onnx']['max_abs_difference']:.1e})" if row["onnx"]["passed"] else "NO",
    ]


def _table(result: dict[str, Any]) -> "Table":
    from rich.table import Column, Table

    # Without the network and its parameters, for which a terminal is too narrow.
    table = Table(Column(HEADINGS[0], no_wrap=True), *HEADINGS[3:], box=None)
    for row in result["presets"]:
        name, _, _, *rest = _cells(row)
        table.add_row(name, *rest)
    return table


def _markdown(result: dict[str, Any]) -> str:
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(_cells(row) for row in result["presets"])]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{_caption(result)}\n"


def _json(result: dict[str, Any]) -> str:
    import json

    return json.dumps(result, indent=2, allow_nan=False) + "\n"


def _caption(result: dict[str, Any]) -> str:
    """What the figures were measured on, and what they are."""
    seeds = len(result["presets"][0]["networks"])
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"Test accuracy, mean ± standard deviation over {seeds} seeds, each network scored once on all "
        f"test images of {result['dataset']}; in brackets the largest difference between ONNX Runtime's "
        "outputs and JAX's. Seconds: of training one; where seeds were trained together, its share. "
        f"{result['date']}, {result['device']}; {packages}."
    )
