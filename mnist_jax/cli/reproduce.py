"""`mnist-jax reproduce`: claimed against measured accuracy."""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax._utils.process_setup import default_prng_impl, start_jax
from mnist_jax._utils.text import finite, markdown_table, mean_and_std, percent
from mnist_jax.cli import console, options, parallel
from mnist_jax.config.presets import PRESETS, preset
from mnist_jax.config.serialization import to_json
from mnist_jax.config.validation import check_positive_int
from mnist_jax.parallel.selection import select_devices
from mnist_jax.runs import directory, pipeline, provenance

if TYPE_CHECKING:
    import jax
    from rich.table import Table

    from mnist_jax.data.datasets import Dataset

FORMAT = 2
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
    seeds: Annotated[int, typer.Option(metavar="N", help="Seeds per preset: 0 to N-1.")] = 5,
    preset_names: Annotated[
        list[str] | None,
        typer.Option(
            "--preset",
            metavar="P",
            help="A preset; may be repeated. (default: all with a claim)",
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
    devices: parallel.Devices = None,
    as_json: options.Json = False,
) -> None:
    """Train presets on MNIST with several seeds, and compare with their claimed accuracies.

    Exits with code 1 if an ONNX file differs from JAX. A claim that is not met is a result, not an error.

    Example: mnist-jax reproduce --seeds 5 --out table.md --out table.json
    """
    check_positive_int("seeds", seeds)
    claiming = [name for name, recipe in PRESETS.items() if recipe.claim]
    recipes = {name: preset(name) for name in preset_names or claiming}
    for path in out or []:
        options.check_file(path, ".json", ".md")

    start_jax()
    chosen = select_devices(devices)
    from mnist_jax.data.datasets import load

    result: dict[str, Any] = {
        "format": FORMAT,
        "date": time.strftime("%Y-%m-%d"),
        "device": provenance.device(chosen),
        "versions": provenance.versions(),
        "presets": [],
    }
    for name, recipe in recipes.items():
        data = load("mnist", data_dir, validation_fraction=recipe.validation_fraction)
        networks = _networks(name, data, seeds, chosen)
        result |= {"dataset": data.name, "dataset_sha256": data.sha256}
        result["presets"].append(_row(name, networks))
        for path in out or []:  # after each preset, so that no measurement is lost
            text = _markdown(result) if path.suffix == ".md" else _json(result)
            write_atomic(path, text.encode())
    if as_json:
        console.print_json(result)
    else:
        console.results().print(_table(result))
        console.results().print(_caption(result))
    if not all(row["onnx"]["passed"] for row in result["presets"]):
        raise typer.Exit(1)


def _networks(
    name: str, data: "Dataset", seeds: int, devices: "list[jax.Device] | None"
) -> list[dict[str, Any]]:
    """Trains a preset with seeds from 0, and returns each network's results."""
    recipe = PRESETS[name]
    source = data.name, data.sha256, recipe.validation_fraction, default_prng_impl()
    run = directory.Run(name, recipe.config, recipe.hyperparams, 0, *source)
    networks = []
    for trained in pipeline.train_seeds(run, data, range(seeds), devices):
        accuracy = pipeline.accuracy(trained.test)
        message = f"{percent(accuracy)} in {trained.seconds:.1f} s"
        console.print_status(f"{name}, seed {trained.seed}: {message}")
        networks.append(
            {
                "seed": trained.seed,
                "accuracy": accuracy,
                "seconds": round(trained.seconds, 3),
                "onnx": finite(trained.parity._asdict()),
            }
        )
    return networks


def _row(name: str, networks: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a preset's row: claimed against measured."""
    recipe = PRESETS[name]
    accuracies = [network["accuracy"] for network in networks]
    mean = statistics.fmean(accuracies)
    parities = [network["onnx"] for network in networks]
    differences = [parity["max_abs_difference"] for parity in parities]
    return {
        "preset": name,
        "network": str(recipe.config.model),
        "parameters": recipe.config.model.num_params,
        "config": to_json(recipe.config),
        "hyperparams": recipe.hyperparams._asdict(),
        "validation_fraction": recipe.validation_fraction,
        "claim": recipe.claim,
        "mean": mean,
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "worst": min(accuracies),
        "best": max(accuracies),
        "claim_met": None if recipe.claimed is None else mean >= recipe.claimed,
        "seconds": statistics.fmean(network["seconds"] for network in networks),
        "onnx": {
            "passed": all(parity["passed"] for parity in parities),
            "disagreements": sum(parity["disagreements"] for parity in parities),
            "max_abs_difference": None if None in differences else max(differences),
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
        mean_and_std(row["mean"], row["std"]),
        percent(row["worst"]),
        percent(row["best"]),
        {True: "yes", False: "no", None: "-"}[row["claim_met"]],
        f"{row['seconds']:.1f}",
        f"yes ({row['onnx']['max_abs_difference']:.1e})" if row["onnx"]["passed"] else "NO",
    ]


def _table(result: dict[str, Any]) -> "Table":
    from rich.table import Column, Table

    # A terminal is too narrow for the network and its parameters.
    table = Table(Column(HEADINGS[0], no_wrap=True), *HEADINGS[3:], box=None)
    for row in result["presets"]:
        name, _, _, *rest = _cells(row)
        table.add_row(name, *rest)
    return table


def _markdown(result: dict[str, Any]) -> str:
    return markdown_table(HEADINGS, map(_cells, result["presets"])) + f"\n{_caption(result)}\n"


def _json(result: dict[str, Any]) -> str:
    import json

    return json.dumps(result, indent=2, allow_nan=False) + "\n"


def _caption(result: dict[str, Any]) -> str:
    """Explains the columns, and names data set, device and versions."""
    seeds = len(result["presets"][0]["networks"])
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"Test accuracy, mean ± standard deviation over {seeds} seeds, each network scored once on all "
        f"test images of {result['dataset']}; in brackets the largest difference between ONNX Runtime's "
        "outputs and JAX's. Seconds: of training one; where seeds were trained together, its share. "
        f"{result['date']}, {result['device']}; {packages}."
    )
