"""`mnist-jax export`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.text import percent
from mnist_jax.cli import console, options
from mnist_jax.cli.datasets import load_of
from mnist_jax.config.validation import check_choice, check_float
from mnist_jax.errors import MnistJaxError
from mnist_jax.runs import directory, results

if TYPE_CHECKING:
    from onnx import ModelProto


DEFAULTS = "uint8", "probabilities", "float32"
CALIBRATION = 1000  # number of training images that calibrate int8-static


def export(
    run_dir: options.RunDir,
    input: Annotated[  # noqa: A002
        str, typer.Option(metavar="uint8|float32", help="Input pixels: 0..255, scaled in the graph, or 0..1.")
    ] = "uint8",
    output: Annotated[
        str, typer.Option(metavar="probabilities|logits", help="Output of the file.")
    ] = "probabilities",
    precision: Annotated[
        str,
        typer.Option(
            metavar="P",
            help="float32, float16, int8 (weights only) or int8-static (activations too).",
        ),
    ] = "float32",
    data_dir: options.DataPath = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="(default: RUN_DIR/model.onnx, or model-OPTIONS.onnx)"),
    ] = None,
    platform: options.Platform = None,
) -> None:
    """Export a run's network to an ONNX file, with its metadata in a .json file beside it.

    A float16 or int8 file is first compared with the float32 one on the whole test set, and the loss of
    accuracy is printed. If it fails its parity check, it is not written, and the exit code is 1.

    Example: mnist-jax export runs/my-run --input float32 --output logits
    """
    from mnist_onnx.classifier import KNOWN

    check_choice("input", input, ("uint8", "float32"))
    check_choice("output", output, KNOWN["output"])
    check_choice("precision", precision, KNOWN["precision"])
    run = directory.read(run_dir)
    if out is not None:
        out = options.onnx(out, run_dir)

    import mnist_onnx
    from mnist_jax.runs.loading import load_params
    from mnist_jax.runs.pipeline import export_run

    params = load_params(run_dir, run)
    try:
        accuracy = results.read_metrics(run_dir, params)["test"]["accuracy"]
        accuracy = check_float("accuracy", accuracy, 0, 1.01)
    except (MnistJaxError, KeyError, TypeError):  # no score, or that of another network
        accuracy = None
        if (run_dir / directory.METRICS).exists():
            how = f"mnist-jax train --resume {shlex.quote(str(run_dir))}"
            console.print_status(
                f"the file has no accuracy: {directory.METRICS} has none for this network; score it: {how}"
            )
    model = export_run(
        run, params, test_accuracy=accuracy, classes=run.class_names, input=input, output=output
    )
    values = (input, output, precision)
    suffixes = [value for value, default in zip(values, DEFAULTS, strict=True) if value != default]
    path = out or run_dir / ("-".join(["model", *suffixes]) + ".onnx")
    if precision != "float32":
        model = _smaller(run, params, model, precision, data_dir)
    mnist_onnx.save(model, path)
    print(f"{path} ({path.stat().st_size:,} bytes) and {path.with_suffix('.json').name}")  # noqa: T201


def _smaller(
    run: directory.Run, params: Any, model: "ModelProto", precision: Any, data_dir: Path | None
) -> Any:
    """Quantizes the model, checks its parity, and prints size and accuracy before and after."""
    from mnist_jax._utils.process_setup import start_jax

    start_jax()
    from mnist_onnx.parity import check_parity
    from mnist_onnx.quantize import cost, quantize

    data = load_of(run, data_dir)
    smaller = quantize(model, precision, images=data.train.images[:CALIBRATION])
    before, after = (value.SerializeToString(deterministic=True) for value in (model, smaller))
    quantization = cost(before, after, data.test)
    parity = {
        **check_parity(run.config.model, params, smaller, data.test.images)._asdict(),
        "precision": precision,
    }
    console.line("ONNX", console.proof(parity))
    flips = f"{quantization.flips:,} of {quantization.n:,} differ from float32"
    console.line("classes", f"{flips}; max difference {quantization.max_abs_difference:.1e}")
    scores = [percent(score) for score in (quantization.accuracy_before, quantization.accuracy_after)]
    console.line("accuracy", f"{scores[0]} before, {scores[1]} after")
    ratio = quantization.bytes_after / quantization.bytes_before
    console.line("size", f"{ratio:.0%} of {quantization.bytes_before:,} bytes")
    if not parity["passed"]:
        console.print_error("the file must pass the parity check; it did not, and was not written")
        raise typer.Exit(1)
    for entry in smaller.metadata_props:
        if entry.key == "test_accuracy":
            entry.value = str(quantization.accuracy_after)
    return smaller
