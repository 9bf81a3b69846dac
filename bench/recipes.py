"""`bench recipes`: what recipes reach on the test set, each seed's network asked once.

Recipes are chosen on validation data and committed before this is run. Every evaluation is a line appended to
`test_evaluations.jsonl`, so that how often the test set was looked at can be counted.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import report
from mnist_jax import runs
from mnist_jax.cli import console, experiment
from mnist_jax.cli.process import default_prng_impl, start_jax
from mnist_jax.errors import SpecError
from mnist_jax.presets import PRESETS, Preset, preset
from mnist_jax.settings import check_whole
from mnist_jax.specs import Config, to_json

CLOCK = (
    "Networks trained on all training images, each scored once on all test images; mean and deviation "
    "(standard) over seeds. Seconds: of training alone, of one network, by itself on a machine that does "
    "nothing else, where --time has asked for it; of an ensemble, of all its members. Looks: how many of its "
    "networks were ever scored on the test set for this table. Recipes were chosen on the last 10,000 "
    "training images."
)
LOG = "test_evaluations.jsonl"
TIMED = 4  # epochs, of which the first is left out


def recipes(
    preset_names: Annotated[
        list[str] | None, typer.Option("--preset", metavar="P", help="Which; may be repeated. (default: all)")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Networks for each; 0 to score none.")] = 5,
    first_seed: Annotated[int, typer.Option(metavar="N", help="The first of their seeds.")] = 0,
    ensemble: Annotated[
        int, typer.Option(metavar="K", help="Each K of them, in their order, as one ensemble, too.")
    ] = 0,
    time_them: Annotated[
        bool, typer.Option("--time", help="Time some epochs of each; leave the machine alone meanwhile.")
    ] = False,
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
    if seeds:
        check_whole("seeds", seeds)
        runs.check_seed(first_seed)
        runs.check_seed(first_seed + seeds - 1)
    if ensemble and (ensemble < 2 or seeds % ensemble):
        raise SpecError(f"--ensemble must be 2 or more, and divide --seeds {seeds}; got {ensemble}")
    chosen = {name: preset(name) for name in preset_names or PRESETS}
    start_jax()
    from mnist_jax.datasets import load

    data = load(dataset, data_dir, validation_fraction=0.0)
    result = report.new("recipes", CLOCK) | {"dataset": data.name}
    looks = [] if out is None else _earlier(out / LOG)
    known = {name: _run(name, recipe, None, data) for name, recipe in PRESETS.items()}
    known |= {name: _run(name, recipe, epochs, data) for name, recipe in chosen.items()}
    timed = {} if out is None else _timed(out / "recipes.json")
    for name in chosen:
        if time_them:
            timed[_recipe(known[name])] = _seconds(known[name], data)
        for members, network in _networks(known[name], data, range(first_seed, first_seed + seeds), ensemble):
            what = {"preset": name, "members": members, "recipe": _recipe(known[name]), "dataset": data.name}
            looks.append(what | network | _when(result))
            if out is not None:
                _append(out / LOG, looks[-1])
    result["timed"], result["rows"] = timed, _table(looks, known, timed)
    report.finish(result, COLUMNS, _plot, out)


def _run(name: str, recipe: Preset, epochs: int | None, data: Any) -> runs.Run:
    config = recipe.config if epochs is None else replace(recipe.config, epochs=epochs)
    return runs.Run(name, config, recipe.hyper, 0, data.name, data.sha256, 0.0, default_prng_impl())


def _recipe(run: runs.Run) -> str:
    """A sum over what a recipe is and is trained on, so that only networks of one are put together.

    What is as usual is left out, so that it stays the same when there is more that may be otherwise.
    """
    usual = to_json(Config(run.config.model)) | {"model": None}
    changed = {name: value for name, value in to_json(run.config).items() if value != usual[name]}
    told = json.dumps([changed, run.hyper, run.dataset_sha256], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _seconds(run: runs.Run, data: Any) -> float:
    """How long one network trains, from the median of some epochs."""
    import jax

    from mnist_jax import fit

    config = replace(run.config, epochs=TIMED)
    history = fit(config, data.train, key=jax.random.key(0), hyper=run.hyper).history
    return run.config.epochs * statistics.median(record.seconds for record in history[1:])


def _networks(run: runs.Run, data: Any, seeds: range, ensemble: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """What each network reached, and each ensemble of so many of them; first how many they are."""
    members: list[experiment.Trained] = []
    for trained in experiment.perform_seeds(run, data, seeds):
        yield 1, _network(trained.seed, trained.test, trained.seconds, trained.parity.passed)
        members.append(trained)
        if len(members) == ensemble:
            yield ensemble, _together(run, data, members)
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


def _table(
    looks: list[dict[str, Any]], known: dict[str, runs.Run], timed: dict[str, float]
) -> list[dict[str, Any]]:
    """A row for each recipe in the presets' order, then its ensembles; of each seed the latest network."""
    rows = []
    for name, run in known.items():
        recipe = _recipe(run)
        for members in sorted({look["members"] for look in looks if look["preset"] == name}):
            ever = [look for look in looks if (look["preset"], look["members"]) == (name, members)]
            networks: dict[int, dict[str, Any]] = {}
            for look in reversed(ever):
                alone = all(abs(look["seed"] - seed) >= members for seed in networks)  # no member in two
                if look["recipe"] == recipe and alone:
                    networks[look["seed"]] = look
            if networks:
                kept = [networks[seed] for seed in sorted(networks)]
                rows.append(_row(run, members, kept, len(ever), timed))
    return rows


def _row(
    run: runs.Run, members: int, networks: list[dict[str, Any]], looks: int, timed: dict[str, float]
) -> dict[str, Any]:
    errors = [1 - network["accuracy"] for network in networks]
    times = "" if members == 1 else f"{members} x "
    return {
        "preset": f"{times}{run.preset}",
        "network": f"{times}{run.config.model}",
        "parameters": members * run.config.model.parameters,
        "epochs": run.config.epochs,
        "error": statistics.fmean(errors),
        "std": statistics.stdev(errors) if len(errors) > 1 else None,
        "best": min(errors),
        "worst": max(errors),
        "seconds": members * timed[_recipe(run)] if _recipe(run) in timed else None,
        "onnx": all(network["onnx"] for network in networks),
        "looks": looks,
        "networks": [{"seed": network["seed"], "accuracy": network["accuracy"]} for network in networks],
    }


def _timed(path: Path) -> dict[str, float]:
    """What an earlier table has timed, by recipe."""
    return dict(json.loads(path.read_text()).get("timed", {})) if path.exists() else {}


def _earlier(path: Path) -> list[dict[str, Any]]:
    """Every look at the test set so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _when(result: dict[str, Any]) -> dict[str, str]:
    return {"date": time.strftime("%Y-%m-%d %H:%M"), "commit": result["commit"], "device": result["device"]}


def _append(path: Path, line: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _told(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f}"


COLUMNS = (
    ("preset", lambda row: row["preset"]),
    ("network", lambda row: row["network"]),
    ("parameters", lambda row: f"{row['parameters']:,}"),
    ("epochs", lambda row: str(row["epochs"])),
    ("test error", lambda row: console.spread(row["error"], row["std"])),
    ("best", lambda row: console.percent(row["best"])),
    ("worst", lambda row: console.percent(row["worst"])),
    ("seconds", lambda row: _told(row["seconds"])),
    ("ONNX = JAX", lambda row: "yes" if row["onnx"] else "NO"),
    ("seeds", lambda row: str(len(row["networks"]))),
    ("looks", lambda row: str(row["looks"])),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        errors = [100 * (1 - network["accuracy"]) for network in row["networks"]]
        name = f"{row['preset']}, {_told(row['seconds'])} s"
        axes.plot(errors, [name] * len(errors), "o", color="C0", alpha=0.3, markersize=4)
        axes.plot(100 * row["error"], name, "|", color="C0", markersize=14)
    axes.set(xlim=(0, None), xlabel="test error, %", title="Each network, the mean, seconds of training")
    axes.tick_params(axis="y", labelsize="small")
    axes.invert_yaxis()
