"""`bench mlp-from-cnn`: the test error of MLPs that start as a CNN.

The recipe was selected on validation data. Every evaluation on the test set appends a line to
`test_evaluations.jsonl`, as `bench test-error` does.
"""

import hashlib
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import options, output, test_error
from mnist_jax._utils.process_setup import start_jax
from mnist_jax._utils.text import mean_and_std, percent
from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.presets import STRONG
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.config.validation import check_positive_int
from mnist_jax.runs import pipeline

CLOCK = (
    "A CNN without pooling is trained, unrolled to the MLP that computes the same, and trained on as an MLP. "
    "Networks trained on all training images, each evaluated once on all test images; mean and standard "
    "deviation over seeds. FLOPs of training as XLA counts them in the compiled step. Those of an MLP, and "
    "its minutes, include its CNN's. Test evaluations: how many networks were ever "
    "evaluated. The recipe was selected on the last 10,000 training images of MNIST."
)
DEFORMATION = STRONG.scaled(0.6)
FIRST = HyperParams(2e-3, label_smoothing=0.05)
SECOND = HyperParams(1.5e-4, label_smoothing=0.05)
NAMES = {"CNN": "strided-cnn", "MLP": "mlp-from-cnn"}  # in the log


def mlp_from_cnn(
    seeds: Annotated[int, typer.Option(metavar="N", help="CNNs to train; 0 for none.")] = 5,
    first_seed: Annotated[int, typer.Option(metavar="N", help="The first seed.")] = 0,
    cnn_epochs: Annotated[int, typer.Option(metavar="N", help="Epochs of the CNN.")] = 54,
    mlp_epochs: Annotated[int, typer.Option(metavar="N", help="Epochs of the MLP.")] = 8,
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
    """Test error of MLPs that start as a CNN, and of the CNNs.

    Example: mnist-jax bench mlp-from-cnn --seeds 1 --cnn-epochs 5 --mlp-epochs 1
    """
    test_error.check_seeds(seeds, first_seed)
    check_positive_int("CNN epochs", cnn_epochs)
    check_positive_int("MLP epochs", mlp_epochs)
    start_jax()
    from bench.strided import StridedCNN
    from mnist_jax.data.datasets import load

    data = load(dataset, data_dir, validation_fraction=0.0)
    result = output.new("mlp_from_cnn", CLOCK) | {"dataset": data.name}
    module = StridedCNN()
    cnn = Config(FlaxModel(module), cnn_epochs, batch_size=128, schedule="cosine", deformation=DEFORMATION)
    mlp = replace(cnn, model=module.as_mlp(), epochs=mlp_epochs, batch_size=256)
    recipe = hashlib.sha256(repr((cnn, mlp, FIRST, SECOND, data.sha256)).encode()).hexdigest()[:12]
    evaluations = [] if out is None else test_error.earlier(out / test_error.LOG)  # a damaged log fails here
    for seed in range(first_seed, first_seed + seeds):
        for kind, scores in _networks(module, cnn, mlp, seed, data):
            key = {"preset": NAMES[kind], "members": 1, "recipe": recipe, "dataset": data.name}
            evaluations.append(key | scores | test_error.when(result))
            output.status(f"{kind}, seed {seed}: {percent(1 - scores['accuracy'])} test error")
            if out is not None:
                test_error.append(out / test_error.LOG, evaluations[-1])
    if out is not None:  # with those of earlier runs, and of one beside this one
        evaluations = test_error.earlier(out / test_error.LOG)
    flops = 0.0
    for kind, network, config in (("CNN", module.describe(), cnn), ("MLP", str(mlp.model), mlp)):
        flops += _flops(config, len(data.train))
        ever = [each for each in evaluations if each["preset"] == NAMES[kind]]
        networks = {each["seed"]: each for each in ever if each["recipe"] == recipe}
        if networks:
            kept = [networks[seed] for seed in sorted(networks)]
            result["rows"].append(_row(kind, network, config, flops, kept) | {"evaluations": len(ever)})
    output.finish(result, COLUMNS, _plot, out)


def _networks(
    module: Any, cnn: Config, mlp: Config, seed: int, data: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Trains a CNN and the MLP that starts as it, and evaluates each once."""
    import jax

    from bench.strided import unrolled
    from mnist_jax import evaluate, fit
    from mnist_onnx import check_parity, to_onnx

    key = jax.random.key(seed)
    start = fit(cnn, data.train, key=key, hyperparams=FIRST)
    seconds = sum(record.seconds for record in start.history)
    test = evaluate(cnn.model, start.params, data.test)
    yield "CNN", {"seed": seed, "accuracy": pipeline.accuracy(test), "seconds": seconds, "onnx": None}
    params = unrolled(module, start.params)
    end = fit(mlp, data.train, key=key, params=params, hyperparams=SECOND)
    seconds += sum(record.seconds for record in end.history)
    test = evaluate(mlp.model, end.params, data.test)
    parity = check_parity(mlp.model, end.params, to_onnx(mlp.model, end.params), data.test.images).passed
    yield "MLP", {"seed": seed, "accuracy": pipeline.accuracy(test), "seconds": seconds, "onnx": parity}


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


def _row(
    kind: str, network: str, config: Config, flops: float, networks: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "kind": kind,
        "network": network,
        "parameters": config.model.num_params,
        "epochs": config.epochs,
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
    test_error.plot_errors(axes, {row["kind"]: row for row in rows})
