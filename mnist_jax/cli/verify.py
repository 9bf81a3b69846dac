"""`mnist-jax verify`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mnist_jax import runs
from mnist_jax.cli import console, options
from mnist_jax.cli.experiment import load_for, load_together, read_together
from mnist_jax.errors import ModelError, RunError
from mnist_jax.settings import check_one_of, shorten


def verify(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR|FILE.onnx",
            help="A run, whose model.onnx is checked, or a file.",
            show_default=False,
        ),
    ],
    run_dirs: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            metavar="RUN_DIR",
            help="The run that FILE.onnx was exported from; of an ensemble, each, in their order.",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Ask another runtime, such as opencv or chromium, installed into the cache at first.",
        ),
    ] = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Prove that an ONNX file equals the JAX network, on the run's whole test set and on noise.

    Ends with exit code 1 if it does not. Warns of a file whose answers depend on the processor.

    Example: mnist-jax verify model.onnx --run runs/my-run
    """
    if not run_dirs and target.is_file():
        raise RunError(
            f"verify needs the run to compare with; add --run RUN_DIR to {target}, or give a run directory"
        )
    if runtime is not None:
        from mnist_onnx.environments import RUNTIMES

        check_one_of("runtime", runtime, tuple(RUNTIMES))
    folders = run_dirs or [target]
    path = target / runs.MODEL if target.is_dir() or not run_dirs else target
    asked = [runs.read(folders[0])] if len(folders) == 1 else read_together("verify", folders)
    from mnist_onnx.limits import check_ours
    from mnist_onnx.sessions import open_session, read_bytes

    model = read_bytes(str(path))
    check_ours(model, str(path))

    from mnist_jax.cli.process import start_jax

    start_jax()
    from mnist_jax.specs import network_to_json
    from mnist_onnx.classifier import read_metadata
    from mnist_onnx.proof import Parity, parity
    from mnist_onnx.questions import question
    from mnist_onnx.runtimes import Examination, examine
    from mnist_onnx.saturation import saturation_warning
    from mnist_onnx.storage import parse

    spec, params = load_together(folders, asked)
    data = load_for(asked[0], data_dir)
    metadata = read_metadata(open_session(model, str(path)), str(path))
    ours = json.dumps(network_to_json(spec))
    if (said := metadata.get("network", ours)) != ours:
        raise ModelError(
            f"{path} must be of the network {spec}; its metadata says {shorten(said)}; "
            "an ensemble needs --run for each of its members"
        )
    if json.loads(metadata["labels"]) != list(data.classes):
        raise ModelError(
            f"{path}: labels in its metadata must be {list(data.classes)}; got {shorten(metadata['labels'])}"
        )
    result: Parity | Examination
    if runtime is None:
        result = parity(spec, params, model, data.test.images)
    else:
        result = examine(runtime, path, question(spec, params, model, data.test.images))
    found = {
        "file": str(path),
        "run": ", ".join(map(str, folders)),
        "dataset": data.name,
        "precision": metadata["precision"],
        **console.finite(result._asdict()),
        "warning": saturation_warning(parse(model, str(path))),
    }
    if found["warning"]:
        console.note(f"WARNING: {found['warning']}")
    if as_json:
        console.print_json(found)
    elif isinstance(result, Examination) and not result.version:
        print(f"{path}: {result.reason}")  # noqa: T201
    else:
        where = f"in {runtime} {result.version} " if isinstance(result, Examination) else ""
        print(f"{path} {where}{console.proof(found)}")  # noqa: T201
    if not result.passed:
        raise typer.Exit(1)
