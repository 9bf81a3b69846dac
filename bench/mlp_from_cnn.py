"""`bench mlp-from-cnn`: the test error of MLPs that start as a CNN, and of CNNs without pooling.

The recipes were selected on validation data. Every evaluation on the test set appends a line to
`test_evaluations.jsonl`, as `bench test-error` does.
"""

import hashlib
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bench import options, output, test_error
from mnist_jax._utils.process_setup import start_jax
from mnist_jax._utils.text import mean_and_std, percent
from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.presets import STRONG
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.config.validation import check_choice, check_positive_int
from mnist_jax.runs import pipeline

CLOCK = (
    "CNNs without pooling are trained; one is unrolled to the MLP that computes the same, and trained on as "
    "one. Networks trained on all training images, each evaluated once on all test images; mean and standard "
    "deviation over seeds. FLOPs of training as XLA counts them in the compiled step. Those of an MLP, and "
    "its minutes, include its CNN's. Test evaluations: how many networks were ever "
    "evaluated. The recipes were selected on the last 10,000 training images of MNIST."
)
CHANNELS = ("24-96", "24-48-96")
FIRST = HyperParams(2e-3, label_smoothing=0.05)
SECOND = HyperParams(1.5e-4, label_smoothing=0.05)


class Stage(NamedTuple):
    """One training of a recipe.

    Attributes:
        kind: `CNN` or `MLP`.
        name: of its networks in the log.
        network: the layers.
        config: network and training settings.
        hyperparams: hyperparameters.
    """

    kind: str
    name: str
    network: str
    config: Config
    hyperparams: HyperParams


def _stages(epochs: int | None) -> dict[str, list[Stage]]:
    """For each recipe the CNN and then, if there is one, the MLP that starts as it."""
    from bench.strided import StridedCNN

    small = StridedCNN((24, 96))
    deep = StridedCNN((24, 48, 96))  # not trained as an MLP, which has 24 million parameters
    cnn = Config(
        FlaxModel(small), epochs or 54, batch_size=128, schedule="cosine", deformation=STRONG.scaled(0.6)
    )
    mlp = replace(cnn, model=small.as_mlp(), epochs=epochs or 8, batch_size=256)
    deep_cnn = replace(cnn, model=FlaxModel(deep), epochs=epochs or 31)
    return {
        "24-96": [
            Stage("CNN", "strided-cnn", small.describe(), cnn, FIRST),
            Stage("MLP", "mlp-from-cnn", str(mlp.model), mlp, SECOND),
        ],
        "24-48-96": [Stage("CNN", "deeper-strided-cnn", deep.describe(), deep_cnn, FIRST)],
    }


def mlp_from_cnn(
    channels: Annotated[
        list[str] | None,
        typer.Option(metavar="C", help=f"{' or '.join(CHANNELS)}; may be repeated. (default: all)"),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="CNNs to train for each; 0 for none.")] = 5,
    first_seed: Annotated[int, typer.Option(metavar="N", help="The first seed.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Override the numbers of epochs, for a quick try.")
    ] = None,
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help=f"Add to {test_error.LOG} there; write its table.",
        ),
    ] = None,
) -> None:
    """Test error of MLPs that start as a CNN, and of CNNs without pooling.

    Example: mnist-jax bench mlp-from-cnn --channels 24-96 --seeds 1 --epochs 2
    """
    test_error.check_seeds(seeds, first_seed)
    if epochs is not None:
        check_positive_int("epochs", epochs)
    for name in channels or ():
        check_choice("channels", name, CHANNELS)
    start_jax()
    from mnist_jax.data.datasets import load

    data = load(dataset, data_dir, validation_fraction=0.0)
    result = output.new("mlp_from_cnn", CLOCK) | {"dataset": data.name}
    evaluations = [] if out is None else test_error.earlier(out / test_error.LOG)  # a damaged log fails here
    recipes = _stages(epochs)
    digests = {name: _digest(stages, data) for name, stages in recipes.items()}
    for name in channels or CHANNELS:
        for seed in range(first_seed, first_seed + seeds):
            for stage, scores in _networks(recipes[name], seed, data):
                key = {"preset": stage.name, "members": 1, "recipe": digests[name], "dataset": data.name}
                evaluations.append(key | scores | test_error.when(result))
                error = percent(1 - scores["accuracy"])
                output.status(f"{stage.kind} {name}, seed {seed}: {error} test error")
                if out is not None:
                    test_error.append(out / test_error.LOG, evaluations[-1])
    if out is not None:  # with those of earlier runs, and of one beside this one
        evaluations = test_error.earlier(out / test_error.LOG)
    for name, stages in recipes.items():
        flops = 0.0
        for stage in stages:
            flops += _flops(stage.config, len(data.train))
            ever = [each for each in evaluations if each["preset"] == stage.name]
            networks = {each["seed"]: each for each in ever if each["recipe"] == digests[name]}
            if networks:
                kept = [networks[seed] for seed in sorted(networks)]
                result["rows"].append(_row(stage, flops, kept) | {"evaluations": len(ever)})
    output.finish(result, COLUMNS, _plot, out)


def _digest(stages: list[Stage], data: Any) -> str:
    """A digest of a recipe and its data set, so that only networks of the same recipe are averaged."""
    configs, rates = [stage.config for stage in stages], [stage.hyperparams for stage in stages]
    return hashlib.sha256(repr((*configs, *rates, data.sha256)).encode()).hexdigest()[:12]


def _networks(stages: list[Stage], seed: int, data: Any) -> Iterator[tuple[Stage, dict[str, Any]]]:
    """Trains a CNN and, if there is a second stage, the MLP that starts as it; evaluates each once."""
    import jax

    from bench.strided import unrolled
    from mnist_jax import evaluate, fit
    from mnist_onnx import check_parity, to_onnx

    key, params, seconds, passed = jax.random.key(seed), None, 0.0, None
    for stage in stages:
        model: Any = stage.config.model
        run = fit(stage.config, data.train, key=key, params=params, hyperparams=stage.hyperparams)
        seconds += sum(record.seconds for record in run.history)
        test = evaluate(model, run.params, data.test)
        if stage.kind == "MLP":
            passed = check_parity(model, run.params, to_onnx(model, run.params), data.test.images).passed
        elif stage is not stages[-1]:
            params = unrolled(model.module, run.params)
        accuracy = pipeline.accuracy(test)
        yield stage, {"seed": seed, "accuracy": accuracy, "seconds": seconds, "onnx": passed}


def _flops(config: Config, examples: int) -> float:
    """The floating-point operations of a training, from those of its compiled step."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from mnist_jax import Examples, train_step
    from mnist_jax.training.start import abstract_state

    size = config.batch_size
    batch = Examples(np.zeros((size, 28, 28), np.uint8), np.zeros(size, np.int32))
    rates = HyperParams(*(jax.ShapeDtypeStruct((), jnp.float32) for _ in HyperParams()))
    config = replace(config, schedule="constant")  # a step alone has no length of its run
    step = jax.jit(train_step, static_argnums=0).lower(config, rates, abstract_state(config), batch)
    cost: Any = step.compile().cost_analysis()
    return float(cost["flops"]) / size * examples * config.epochs


def _row(stage: Stage, flops: float, networks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": stage.kind,
        "network": stage.network,
        "parameters": stage.config.model.num_params,
        "epochs": stage.config.epochs,
        "flops": flops,
        **test_error.errors_of(networks),
        "minutes": statistics.fmean(network["seconds"] for network in networks) / 60,
        "onnx": None if networks[0]["onnx"] is None else all(network["onnx"] for network in networks),
        "networks": [{"seed": network["seed"], "accuracy": network["accuracy"]} for network in networks],
    }


COLUMNS = (
    ("", lambda row: row["kind"]),
    ("network", lambda row: row["network"]),
    ("parameters", lambda row: f"{row['parameters']:,}"),
    ("epochs", lambda row: str(row["epochs"])),
    ("TFLOP of training", lambda row: f"{row['flops'] / 1e12:.3g}"),
    ("minutes", lambda row: f"{row['minutes']:.1f}"),
    ("test error", lambda row: mean_and_std(row["error"], row["std"])),
    ("best", lambda row: percent(row["best"])),
    ("worst", lambda row: percent(row["worst"])),
    ("ONNX = JAX", lambda row: {None: "-", True: "yes", False: "NO"}[row["onnx"]]),
    ("seeds", lambda row: str(len(row["networks"]))),
    ("test evaluations", lambda row: str(row["evaluations"])),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    test_error.plot_errors(axes, {row["network"]: row for row in rows})
