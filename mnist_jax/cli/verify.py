"""`mnist-jax verify`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.text import finite
from mnist_jax.cli import console, options
from mnist_jax.cli.datasets import load_of
from mnist_jax.config.validation import check_choice, shorten
from mnist_jax.errors import ModelError, RunError
from mnist_jax.runs import directory
from mnist_jax.runs.loading import load_networks, read_runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mnist_jax.config.networks import Spec
    from mnist_jax.data.datasets import Dataset
    from mnist_jax.types import Params
    from mnist_onnx.parity import Parity
    from mnist_onnx.runtime_check import RuntimeCheck


def verify(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR|FILE.onnx",
            help="A run, to check its model.onnx, or an ONNX file.",
            show_default=False,
        ),
    ],
    run_dirs: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            metavar="RUN_DIR",
            help="The run that FILE.onnx was exported from; for an ensemble, each member in order.",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Check in another runtime, such as opencv or chromium; installed on first use.",
        ),
    ] = None,
    data_dir: options.DataPath = None,
    platform: options.Platform = None,
    as_json: options.Json = False,
) -> None:
    """Check that an ONNX file equals the JAX network, on the run's whole test set and on noise.

    Exits with code 1 if it does not. Warns of a file whose results depend on the processor.

    Example: mnist-jax verify model.onnx --run runs/my-run
    """
    if not run_dirs and target.is_file():
        raise RunError(
            f"verify needs the run to compare with; add --run RUN_DIR to {target}, or give a run directory"
        )
    if runtime is not None:
        from mnist_onnx.runtime_envs import RUNTIMES

        check_choice("runtime", runtime, tuple(RUNTIMES))
    folders = run_dirs or [target]
    path = target / directory.MODEL if target.is_dir() or not run_dirs else target
    runs = [directory.read(folders[0])] if len(folders) == 1 else read_runs("verify", folders)
    directory.check_exported(folders[0], runs[0])
    model = _read_model(path)

    from mnist_jax._utils.process_setup import start_jax

    start_jax()
    spec, params = load_networks(folders, runs)
    data = load_of(runs[0], data_dir)
    metadata = _read_metadata(path, model, spec, data.classes)
    check = _check(path, model, spec, params, data, runtime)
    result = {
        "file": str(path),
        "run": ", ".join(map(str, folders)),
        "dataset": data.name,
        "precision": metadata["precision"],
        **finite(check._asdict()),
        "warning": _warning(path, model, check),
    }
    if result["warning"]:
        console.print_status(f"WARNING: {result['warning']}")
    if as_json:
        console.print_json(result)
    else:
        print(_describe(path, check, runtime, result))  # noqa: T201
    if not check.passed:
        raise typer.Exit(1)


def _read_model(path: Path) -> bytes:
    """Reads an ONNX file, and checks that it is within the limits of our files."""
    from mnist_onnx.graph_limits import check_ours
    from mnist_onnx.session import read_bytes

    model = read_bytes(str(path))
    check_ours(model, str(path))
    return model


def _read_metadata(path: Path, model: bytes, spec: "Spec", classes: "tuple[str, ...]") -> "Mapping[str, str]":
    """Reads a file's metadata, and checks that its network and its labels are the run's.

    Raises:
        ModelError: they are not.
    """
    from mnist_jax.config.serialization import network_to_json
    from mnist_onnx.classifier import read_metadata
    from mnist_onnx.session import open_session

    metadata = read_metadata(open_session(model, str(path)), str(path))
    expected = json.dumps(network_to_json(spec))
    if (network := metadata.get("network", expected)) != expected:
        raise ModelError(
            f"{path} must be of the network {spec}; its metadata says {shorten(network)}; "
            "an ensemble needs --run for each of its members"
        )
    if json.loads(metadata["labels"]) != list(classes):
        raise ModelError(
            f"{path}: labels in its metadata must be {list(classes)}; got {shorten(metadata['labels'])}"
        )
    return metadata


def _check(
    path: Path, model: bytes, spec: "Spec", params: "Params", data: "Dataset", runtime: str | None
) -> "Parity | RuntimeCheck":
    """Checks parity in ONNX Runtime, or in another runtime."""
    if runtime is None:
        from mnist_onnx.parity import check_parity

        return check_parity(spec, params, model, data.test.images)
    from mnist_onnx.parity_cases import parity_case
    from mnist_onnx.runtime_check import check_runtime

    return check_runtime(runtime, path, parity_case(spec, params, model, data.test.images))


def _warning(path: Path, model: bytes, check: "Parity | RuntimeCheck") -> str:
    """Returns why results may depend on the processor; a parity check has found that out already."""
    from mnist_onnx.runtime_check import RuntimeCheck

    if not isinstance(check, RuntimeCheck):
        return check.warning
    from mnist_onnx.io import parse
    from mnist_onnx.saturation import saturation_warning

    return saturation_warning(parse(model, str(path)))


def _describe(path: Path, check: "Parity | RuntimeCheck", runtime: str | None, result: dict[str, Any]) -> str:
    """Returns the result as one line."""
    from mnist_onnx.runtime_check import RuntimeCheck

    if isinstance(check, RuntimeCheck):
        if not check.version:
            return f"{path}: {check.reason}"
        return f"{path} in {runtime} {check.version} {console.proof(result)}"
    return f"{path} {console.proof(result)}"
