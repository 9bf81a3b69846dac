"""`mnist-jax export`."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_jax import runs
from mnist_jax.cli import options
from mnist_jax.errors import MnistJaxError
from mnist_jax.settings import check_real


def export(
    run_dir: options.RunDir,
    input: Annotated[  # noqa: A002
        str, typer.Option(metavar="uint8|float32", help="Pixels 0..255, scaled inside the file, or 0..1.")
    ] = "uint8",
    output: Annotated[
        str, typer.Option(metavar="probabilities|logits", help="What the file puts out.")
    ] = "probabilities",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="(default: RUN_DIR/model.onnx, or its name with the options)"),
    ] = None,
) -> None:
    """Write a run's network as an ONNX file, with a .json of the same name beside it.

    Example: mnist-jax export runs/my-run --input float32 --output logits
    """
    run = runs.read(run_dir)

    import mnist_onnx
    from mnist_jax.cli.experiment import export_run, load_params
    from mnist_jax.sources import classes

    params = load_params(run_dir, run)
    try:
        accuracy = runs.read_metrics(run_dir)["test"]["accuracy"]
        accuracy = check_real("accuracy", accuracy, 0, 1.01)
    except (MnistJaxError, KeyError, TypeError):  # a run that was not finished has no score to tell
        accuracy = None
    model = export_run(
        run, params, test_accuracy=accuracy, classes=classes(run.dataset), input=input, output=output
    )
    plain = (input, output) == ("uint8", "probabilities")
    path = out or run_dir / (runs.MODEL if plain else f"model-{input}-{output}.onnx")
    mnist_onnx.save(model, path)
    print(f"{path} ({path.stat().st_size:,} bytes) and {path.with_suffix('.json').name}")  # noqa: T201
