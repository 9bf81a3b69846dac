"""`mnist-jax verify`."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_jax import runs
from mnist_jax.cli import console, options
from mnist_jax.cli.train import proof_line
from mnist_jax.errors import ModelError, RunError


def verify(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR|FILE.onnx",
            help="A run, whose model.onnx is checked, or a file.",
            show_default=False,
        ),
    ],
    run_dir: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN_DIR", help="The run that FILE.onnx was exported from."),
    ] = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Prove that an ONNX file equals the JAX network, on the run's whole test set and on noise.

    Ends with exit code 1 if it does not.

    Example: mnist-jax verify model.onnx --run runs/my-run
    """
    if run_dir is None and not target.is_dir():
        raise RunError(
            f"verify needs the run to compare with; add --run RUN_DIR to {target}, or give a run directory"
        )
    folder, path = (run_dir, target) if run_dir is not None else (target, target / runs.MODEL)
    if path.is_dir():
        path = path / runs.MODEL
    run = runs.read(folder)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} must be an ONNX file; it cannot be read: {error.strerror}") from None

    from mnist_jax.cli.process import start_jax

    start_jax()
    from mnist_jax import checkpoint
    from mnist_jax.datasets import load
    from mnist_onnx.proof import parity

    params = checkpoint.load_params(folder / runs.CHECKPOINT)
    data = load(run.dataset, data_dir)
    result = parity(run.config.model, params, model, data.test.images)
    found = {"file": str(path), "run": str(folder), "dataset": data.name, **result._asdict()}
    if as_json:
        console.print_json(found)
    else:
        console.results().print(f"{path} {proof_line(found)}")
    if not result.passed:
        raise typer.Exit(1)
