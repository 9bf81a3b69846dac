"""`mnist-jax export`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax import results, runs
from mnist_jax.cli import console, options
from mnist_jax.errors import MnistJaxError
from mnist_jax.settings import check_one_of, check_real

if TYPE_CHECKING:
    from onnx import ModelProto


USUAL = "uint8", "probabilities", "float32"
CALIBRATION = 1000  # training images whose activations set the ranges of int8-static


def export(
    run_dir: options.RunDir,
    input: Annotated[  # noqa: A002
        str, typer.Option(metavar="uint8|float32", help="Pixels 0..255, scaled inside the file, or 0..1.")
    ] = "uint8",
    output: Annotated[
        str, typer.Option(metavar="probabilities|logits", help="What the file puts out.")
    ] = "probabilities",
    precision: Annotated[
        str,
        typer.Option(
            metavar="P",
            help="float32; or smaller files: float16, int8 (weights), int8-static (activations too).",
        ),
    ] = "float32",
    data_dir: options.DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="(default: RUN_DIR/model.onnx, or its name with the options)"),
    ] = None,
) -> None:
    """Write a run's network as an ONNX file, with a .json of the same name beside it.

    A smaller file is compared with the float32 one on the whole test set first, and what it costs is told. If
    it is not what it must be, it is not written, and the exit code is 1.

    Example: mnist-jax export runs/my-run --input float32 --output logits
    """
    from mnist_onnx.classifier import KNOWN

    check_one_of("input", input, ("uint8", "float32"))
    check_one_of("output", output, KNOWN["output"])
    check_one_of("precision", precision, KNOWN["precision"])
    run = runs.read(run_dir)
    if out is not None:
        out = options.onnx(out, run_dir)

    import mnist_onnx
    from mnist_jax.cli.experiment import export_run, load_params
    from mnist_jax.sources import classes

    params = load_params(run_dir, run)
    try:
        accuracy = results.read_metrics(run_dir, params)["test"]["accuracy"]
        accuracy = check_real("accuracy", accuracy, 0, 1.01)
    except (MnistJaxError, KeyError, TypeError):  # no score, or one of another network
        accuracy = None
        if (run_dir / runs.METRICS).exists():
            how = f"mnist-jax train --resume {shlex.quote(str(run_dir))}"
            console.note(f"no accuracy in the file: {runs.METRICS} has none of this network; score it: {how}")
    model = export_run(
        run, params, test_accuracy=accuracy, classes=classes(run.dataset), input=input, output=output
    )
    options_given = (input, output, precision)
    named = [given for given, usual in zip(options_given, USUAL, strict=True) if given != usual]
    path = out or run_dir / ("-".join(["model", *named]) + ".onnx")
    if precision != "float32":
        model = _smaller(run, params, model, precision, data_dir)
    mnist_onnx.save(model, path)
    print(f"{path} ({path.stat().st_size:,} bytes) and {path.with_suffix('.json').name}")  # noqa: T201


def _smaller(run: runs.Run, params: Any, model: "ModelProto", precision: Any, data_dir: Path | None) -> Any:
    """The model in fewer bits, once it is known to be what it must be; tells what that costs."""
    from mnist_jax.cli.process import start_jax

    start_jax()
    from mnist_jax.cli.experiment import load_for
    from mnist_onnx.proof import parity
    from mnist_onnx.quantize import cost, quantize

    data = load_for(run, data_dir)
    smaller = quantize(model, precision, images=data.train.images[:CALIBRATION])
    before, after = (value.SerializeToString(deterministic=True) for value in (model, smaller))
    paid = cost(before, after, data.test)
    proof = {**parity(run.config.model, params, smaller, data.test.images)._asdict(), "precision": precision}
    console.line("ONNX", console.proof(proof))
    lost = f"{paid.flips:,} of {paid.n:,} other than in float32, by up to {paid.max_abs_difference:.1e}"
    scores = [console.percent(score) for score in (paid.accuracy_before, paid.accuracy_after)]
    console.line("answers", lost)
    console.line("accuracy", f"{scores[0]} before, {scores[1]} after")
    console.line("size", f"{paid.bytes_after / paid.bytes_before:.0%} of {paid.bytes_before:,} bytes")
    if not proof["passed"]:
        console.complain("nothing was written: the smaller file does not answer as it must")
        raise typer.Exit(1)
    for entry in smaller.metadata_props:
        if entry.key == "test_accuracy":
            entry.value = str(paid.accuracy_after)
    return smaller
