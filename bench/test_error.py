"""`bench test-error`: the test error of training recipes; each network is evaluated once.

Recipes are selected on validation data and committed before this runs. Every evaluation appends a line to
`test_evaluations.jsonl`, which counts how often the test set has been used.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from bench import options, output
from mnist_jax._utils.process_setup import default_prng_impl, start_jax
from mnist_jax._utils.text import mean_and_std, percent
from mnist_jax.config.networks import Network
from mnist_jax.config.presets import PRESETS, Preset, preset
from mnist_jax.config.serialization import to_json
from mnist_jax.config.training import Config
from mnist_jax.config.validation import check_positive_int
from mnist_jax.errors import SpecError
from mnist_jax.runs import directory, pipeline

CLOCK = (
    "Networks trained on all training images, each evaluated once on all test images; mean and standard "
    "deviation over seeds. Seconds: training time of one network, measured with --time on an otherwise "
    "idle machine; for an ensemble, of all its members. Test evaluations: how many networks of the preset "
    "have been evaluated on the test set for this table so far. Recipes were selected on the last 10,000 "
    "training images."
)
LOG = "test_evaluations.jsonl"
TIMED_EPOCHS = 4  # the first is a warm-up


def test_error(
    preset_names: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="P", help="Preset; may be repeated. (default: all)"),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Networks to train per preset; 0 for none.")] = 5,
    first_seed: Annotated[int, typer.Option(metavar="N", help="The first seed.")] = 0,
    ensemble: Annotated[
        int, typer.Option(metavar="K", help="Also evaluate each K networks, in order, as an ensemble.")
    ] = 0,
    time_them: Annotated[
        bool, typer.Option("--time", help="Also time some epochs per preset; needs an idle machine.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Override the number of epochs, for a quick try.")
    ] = None,
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help=f"Update the table, the plot and {LOG} there."),
    ] = None,
) -> None:
    """Test error of presets trained on all training images, as a mean over seeds.

    Example: mnist-jax bench test-error --preset mlp-1024-512-deformed --out bench/results
    """
    check_seeds(seeds, first_seed)
    if ensemble and (ensemble < 2 or seeds % ensemble):
        raise SpecError(f"--ensemble must be 2 or more, and divide --seeds {seeds}; got {ensemble}")
    chosen = {name: preset(name) for name in preset_names or PRESETS}
    start_jax()
    from mnist_jax.data.datasets import load

    data = load(dataset, data_dir, validation_fraction=0.0)
    result = output.new("test_error", CLOCK) | {"dataset": data.name}
    evaluations = [] if out is None else earlier(out / LOG)
    known = {name: _run(name, recipe, None, data) for name, recipe in PRESETS.items()}
    known |= {name: _run(name, recipe, epochs, data) for name, recipe in chosen.items()}
    timed = {} if out is None else _timed(out / "test_error.json")
    for name in chosen:
        if time_them:
            timed[_recipe(known[name])] = _seconds(known[name], data)
        for members, network in _networks(known[name], data, range(first_seed, first_seed + seeds), ensemble):
            key = {"preset": name, "members": members, "recipe": _recipe(known[name]), "dataset": data.name}
            evaluations.append(key | network | when(result))
            if out is not None:
                append(out / LOG, evaluations[-1])
    result["timed"], result["rows"] = timed, _table(evaluations, known, timed)
    output.finish(result, COLUMNS, _plot, out)


def check_seeds(seeds: int, first_seed: int) -> None:
    """Checks the number of networks to train, 0 for none, and the first seed."""
    if seeds:
        check_positive_int("seeds", seeds)
        directory.check_seed(first_seed)
        directory.check_seed(first_seed + seeds - 1)


def _run(name: str, recipe: Preset, epochs: int | None, data: Any) -> directory.Run:
    config = recipe.config if epochs is None else replace(recipe.config, epochs=epochs)
    return directory.Run(
        name, config, recipe.hyperparams, 0, data.name, data.sha256, 0.0, default_prng_impl()
    )


def _recipe(run: directory.Run) -> str:
    """A digest of a recipe and its data set, so that only networks of the same recipe are averaged.

    It covers only settings that differ from their defaults, so that it does not change when a new setting is
    added to `Config`.
    """
    defaults = to_json(Config(run.config.model)) | {"model": None}
    changed = {name: value for name, value in to_json(run.config).items() if value != defaults[name]}
    text = json.dumps([changed, run.hyperparams, run.dataset_sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _seconds(run: directory.Run, data: Any) -> float:
    """The training time of one network in seconds, extrapolated from the median of a few epochs."""
    import jax

    from mnist_jax import fit

    config = replace(run.config, epochs=TIMED_EPOCHS)
    history = fit(config, data.train, key=jax.random.key(0), hyperparams=run.hyperparams).history
    return run.config.epochs * statistics.median(record.seconds for record in history[1:])


def _networks(
    run: directory.Run, data: Any, seeds: range, ensemble: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Trains and evaluates; yields the number of members (1 for a single network) and the evaluation."""
    members: list[pipeline.SeedResult] = []
    for result in pipeline.train_seeds(run, data, seeds):
        yield 1, _network(result.seed, result.test, result.seconds, result.parity.passed)
        members.append(result)
        if len(members) == ensemble:
            yield ensemble, _ensemble(run, data, members)
            members = []


def _ensemble(run: directory.Run, data: Any, members: list[pipeline.SeedResult]) -> dict[str, Any]:
    """Evaluates several networks as an ensemble."""
    from mnist_jax import Ensemble, ensemble_params, evaluate
    from mnist_onnx import check_parity, to_onnx

    spec = Ensemble((cast(Network, run.config.model),) * len(members))
    params = ensemble_params([member.params for member in members])
    parity = check_parity(spec, params, to_onnx(spec, params), data.test.images)
    seconds = sum(member.seconds for member in members)
    return _network(members[0].seed, evaluate(spec, params, data.test), seconds, parity.passed)


def _network(seed: int, test: Any, seconds: float, parity: bool) -> dict[str, Any]:
    return {"seed": seed, "accuracy": pipeline.accuracy(test), "seconds": seconds, "onnx": parity}


def _table(
    evaluations: list[dict[str, Any]], known: dict[str, directory.Run], timed: dict[str, float]
) -> list[dict[str, Any]]:
    """One row per preset and its ensembles, in the order of the presets, with the latest network per seed."""
    rows = []
    for name, run in known.items():
        recipe = _recipe(run)
        for members in sorted({each["members"] for each in evaluations if each["preset"] == name}):
            ever = [each for each in evaluations if (each["preset"], each["members"]) == (name, members)]
            networks: dict[int, dict[str, Any]] = {}
            for each in reversed(ever):
                disjoint = all(abs(each["seed"] - seed) >= members for seed in networks)  # no shared member
                if each["recipe"] == recipe and disjoint:
                    networks[each["seed"]] = each
            if networks:
                kept = [networks[seed] for seed in sorted(networks)]
                rows.append(_row(run, members, kept, len(ever), timed))
    return rows


def _row(
    run: directory.Run,
    members: int,
    networks: list[dict[str, Any]],
    evaluations: int,
    timed: dict[str, float],
) -> dict[str, Any]:
    times = "" if members == 1 else f"{members} x "
    return {
        "preset": f"{times}{run.preset}",
        "network": f"{times}{run.config.model}",
        "parameters": members * run.config.model.num_params,
        "epochs": run.config.epochs,
        **errors_of(networks),
        "seconds": members * timed[_recipe(run)] if _recipe(run) in timed else None,
        "onnx": all(network["onnx"] for network in networks),
        "evaluations": evaluations,
        "networks": [{"seed": network["seed"], "accuracy": network["accuracy"]} for network in networks],
    }


def errors_of(networks: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean, standard deviation, minimum and maximum of the networks' test errors."""
    errors = [1 - network["accuracy"] for network in networks]
    return {
        "error": statistics.fmean(errors),
        "std": statistics.stdev(errors) if len(errors) > 1 else None,
        "best": min(errors),
        "worst": max(errors),
    }


def _timed(path: Path) -> dict[str, float]:
    """The seconds in an earlier table, by recipe."""
    return dict(json.loads(path.read_text()).get("timed", {})) if path.exists() else {}


def earlier(path: Path) -> list[dict[str, Any]]:
    """All evaluations on the test set so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def when(result: dict[str, Any]) -> dict[str, str]:
    """When, at which commit and on which device a network was evaluated."""
    return {"date": time.strftime("%Y-%m-%d %H:%M"), "commit": result["commit"], "device": result["device"]}


def append(path: Path, line: dict[str, Any]) -> None:
    """Appends a line to the log of evaluations on the test set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _format_seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f}"


COLUMNS = (
    ("preset", lambda row: row["preset"]),
    ("network", lambda row: row["network"]),
    ("parameters", lambda row: f"{row['parameters']:,}"),
    ("epochs", lambda row: str(row["epochs"])),
    ("test error", lambda row: mean_and_std(row["error"], row["std"])),
    ("best", lambda row: percent(row["best"])),
    ("worst", lambda row: percent(row["worst"])),
    ("seconds", lambda row: _format_seconds(row["seconds"])),
    ("ONNX = JAX", lambda row: "yes" if row["onnx"] else "NO"),
    ("seeds", lambda row: str(len(row["networks"]))),
    ("test evaluations", lambda row: str(row["evaluations"])),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    plot_errors(axes, {f"{row['preset']}, {_format_seconds(row['seconds'])} s": row for row in rows})
    axes.set_title("Each network, the mean, seconds of training")
    axes.tick_params(axis="y", labelsize="small")


def plot_errors(axes: Any, rows: dict[str, dict[str, Any]]) -> None:
    """Draws the test error of each network of the named rows, and the mean."""
    for name, row in rows.items():
        errors = [100 * (1 - network["accuracy"]) for network in row["networks"]]
        axes.plot(errors, [name] * len(errors), "o", color="C0", alpha=0.3, markersize=4)
        axes.plot(100 * row["error"], name, "|", color="C0", markersize=14)
    axes.set(xlim=(0, None), xlabel="test error, %", title="Each network, and the mean")
    axes.invert_yaxis()
