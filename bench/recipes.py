"""`bench recipes`: what recipes reach on the test set, each seed's network asked once.

Recipes are chosen on validation data and committed before this is run. Every evaluation is a line appended to
`test_evaluations.jsonl`, so that how often the test set was looked at can be counted.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import report
from mnist_jax import runs
from mnist_jax.cli import console, experiment
from mnist_jax.cli.process import start_jax
from mnist_jax.errors import SpecError
from mnist_jax.presets import PRESETS, preset
from mnist_jax.settings import check_whole

CLOCK = (
    "Networks trained on all training images, each scored once on all test images; mean and deviation "
    "(standard) over seeds. Seconds: of training alone, mean; of small networks, whose seeds are trained "
    "together, a share; of an ensemble, the sum. Looks: how many of its networks were ever scored on the "
    "test set for this table. Recipes were chosen on the last 10,000 training images."
)
LOG = "test_evaluations.jsonl"


def recipes(
    preset_names: Annotated[
        list[str] | None, typer.Option("--preset", metavar="P", help="Which; may be repeated. (default: all)")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Networks for each.")] = 5,
    first_seed: Annotated[int, typer.Option(metavar="N", help="The first of their seeds.")] = 0,
    ensemble: Annotated[
        int, typer.Option(metavar="K", help="Each K of them, in their order, as one ensemble, too.")
    ] = 0,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Fewer, to try the benchmark out.")] = None,
    dataset: Annotated[str, typer.Option(metavar="D", help="What to train on.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it is.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help=f"Add to the table, plot and {LOG} there.")
    ] = None,
) -> None:
    """Test error of recipes, mean over seeds, on all 60,000 training images.

    Example: python -m bench recipes --preset mlp-1024-512-deformed --out bench/results
    """
    check_whole("seeds", seeds)
    if ensemble == 1 or ensemble < 0:
        raise SpecError(f"--ensemble must be a whole number of at least 2; got {ensemble}")
    chosen = {name: preset(name) for name in preset_names or PRESETS}
    start_jax()
    from mnist_jax.datasets import load

    data = load(dataset, data_dir, validation_fraction=0.0)
    result = report.new("recipes", CLOCK) | {"dataset": data.name}
    kept = [] if out is None else _rows(out / "recipes.json")
    for name, recipe in chosen.items():
        config = recipe.config if epochs is None else replace(recipe.config, epochs=epochs)
        run = runs.Run(name, config, recipe.hyper, 0, data.name, data.sha256, 0.0)
        found: dict[str, list[dict[str, Any]]] = {}
        for each, network in _networks(run, data, range(first_seed, first_seed + seeds), ensemble):
            found.setdefault(each, []).append(network)
            if out is not None:
                _append(out / LOG, {"preset": each, "dataset": data.name, **network} | _when(result))
        for each, networks in found.items():
            looks = _looks(out / LOG)[each] if out is not None else len(networks)
            whole = [*networks, *_others(kept, each, networks)]
            row = _row(each, config, 1 if each == name else ensemble, whole, looks)
            kept = [other for other in kept if other["preset"] != each] + [row]
        result["rows"] = kept
    report.finish(result, COLUMNS, _plot, out)


def _networks(run: runs.Run, data: Any, seeds: range, ensemble: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each network reached, and each ensemble of so many of them, with the name of its row."""
    members: list[experiment.Trained] = []
    for trained in experiment.perform_seeds(run, data, seeds):
        yield run.preset, _network(trained.seed, trained.test, trained.seconds, trained.parity.passed)
        members.append(trained)
        if len(members) == ensemble:
            yield f"{ensemble} x {run.preset}", _together(run, data, members)
            members = []


def _together(run: runs.Run, data: Any, members: list[experiment.Trained]) -> dict[str, Any]:
    """What they reach as one."""
    from mnist_jax import Ensemble, ensemble_params, evaluate
    from mnist_onnx import parity, to_onnx

    spec = Ensemble((run.config.model,) * len(members))
    params = ensemble_params([member.params for member in members])
    proof = parity(spec, params, to_onnx(spec, params), data.test.images)
    seconds = sum(member.seconds for member in members)
    return _network(members[0].seed, evaluate(spec, params, data.test), seconds, proof.passed)


def _network(seed: int, test: Any, seconds: float, proven: bool) -> dict[str, Any]:
    return {"seed": seed, "accuracy": experiment.accuracy(test), "seconds": seconds, "onnx": proven}


def _row(name: str, config: Any, members: int, networks: list[dict[str, Any]], looks: int) -> dict[str, Any]:
    errors = [1 - network["accuracy"] for network in networks]
    return {
        "preset": name,
        "network": f"{members} x {config.model}" if members > 1 else str(config.model),
        "parameters": members * config.model.parameters,
        "epochs": config.epochs,
        "error": statistics.fmean(errors),
        "std": statistics.stdev(errors) if len(errors) > 1 else None,
        "best": min(errors),
        "worst": max(errors),
        "seconds": statistics.fmean(network["seconds"] for network in networks),
        "onnx": all(network["onnx"] for network in networks),
        "looks": looks,
        "networks": networks,
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    """What an earlier table has."""
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def _others(rows: list[dict[str, Any]], name: str, networks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A recipe's networks of earlier tables, from other seeds."""
    seeds = {network["seed"] for network in networks}
    known = (network for row in rows if row["preset"] == name for network in row["networks"])
    return [network for network in known if network["seed"] not in seeds]


def _when(result: dict[str, Any]) -> dict[str, str]:
    return {"date": time.strftime("%Y-%m-%d %H:%M"), "commit": result["commit"], "device": result["device"]}


def _append(path: Path, line: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _looks(path: Path) -> Counter[str]:
    """How often each recipe's networks were scored on the test set."""
    return Counter(json.loads(line)["preset"] for line in path.read_text().splitlines())


COLUMNS = (
    ("preset", lambda row: row["preset"]),
    ("network", lambda row: row["network"]),
    ("parameters", lambda row: f"{row['parameters']:,}"),
    ("epochs", lambda row: str(row["epochs"])),
    ("test error", lambda row: console.spread(row["error"], row["std"])),
    ("best", lambda row: console.percent(row["best"])),
    ("worst", lambda row: console.percent(row["worst"])),
    ("seconds", lambda row: f"{row['seconds']:.0f}"),
    ("ONNX = JAX", lambda row: "yes" if row["onnx"] else "NO"),
    ("seeds", lambda row: str(len(row["networks"]))),
    ("looks", lambda row: str(row["looks"])),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        errors = [100 * (1 - network["accuracy"]) for network in row["networks"]]
        axes.plot([row["seconds"]] * len(errors), errors, ".", color="gray", markersize=4)
        axes.plot(row["seconds"], 100 * row["error"], "o", label=row["preset"])
    axes.set(xscale="log", xlabel="seconds of training", ylabel="test error, %", title="Recipes")
    axes.legend(fontsize="x-small")
