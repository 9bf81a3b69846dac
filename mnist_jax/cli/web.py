"""`mnist-jax web`: the drawing page, as a static site."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_jax._utils.process_setup import start_jax
from mnist_jax.cli import console, options
from mnist_jax.cli.datasets import load_of
from mnist_jax.data.registry import DATASETS
from mnist_jax.errors import DatasetError, DatasetUnavailableError, RunError
from mnist_jax.runs import directory

if TYPE_CHECKING:
    from mnist_jax.data.examples import TestSet


def web(
    model: options.RunOrFile,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="A new directory, or one that `web` wrote.")
    ] = Path("site"),
    data_dir: options.DataPath = None,
) -> None:
    """Write the drawing page, with a trained network, as a static site.

    The first call needs npm, to download onnxruntime-web.

    Example: mnist-jax web runs/my-run --out site
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"--out must name a directory; {out} is a file")
    files = page(model, data_dir)
    from mnist_jax._utils.atomic_io import remove, target, temporaries, write_atomic

    pages = [out / name for name in files]
    # Temporary files of a killed process must not be published.
    folders = {path.parent for path in pages}
    remove(left for folder in folders for left in temporaries(folder) if folder / target(left) in pages)
    existing = [path for path in out.rglob("*") if path.is_file()]
    foreign = [path for path in existing if path not in pages]
    if foreign or (existing and not (out / "app.js").exists()):
        name = (foreign or existing)[0].name
        raise RunError(f"--out must be a new directory, or one written by web; {out} holds {name}")

    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out / name, data)
    total = sum(map(len, files.values()))
    print(f"{out} ({len(files)} files, {total / 1e6:.1f} MB); serve it with any web server")  # noqa: T201


def page(model: Path, data_dir: Path | None) -> dict[str, bytes]:
    """Builds the files of the drawing page.

    Args:
        model: an ONNX file, or a run directory with one.
        data_dir: directory with the data set.

    Returns:
        The files' contents by their paths in the site.

    Raises:
        ModelError: the ONNX file is damaged, or was changed since it was written.
        DatasetError: the data set differs from the one that the file names.
        RuntimeUnavailableError: onnxruntime-web cannot be downloaded.
    """
    run = None if model.suffix == ".onnx" else directory.read(model)
    start_jax()
    from mnist_onnx.io import load_with_metadata
    from mnist_onnx.webapp_files import site

    spec, params, metadata = load_with_metadata(model if model.suffix == ".onnx" else model / directory.MODEL)
    try:
        test = _test_set(run, metadata, data_dir)
    except DatasetUnavailableError as error:
        console.print_status(f"the page has no test digits: {error}")
        test = None
    return site(spec, params, metadata, test)


def _test_set(
    run: directory.Run | None, metadata: Mapping[str, str], data_dir: Path | None
) -> "TestSet | None":
    """Loads the test set of the run, or of the data set that the metadata names; None if it names none."""
    from mnist_jax.data.datasets import load

    if "dataset" not in metadata:
        return None
    if run is not None and run.classes is not None:
        return load_of(run, data_dir).test
    if metadata["dataset"] not in DATASETS:
        name = metadata["dataset"]
        raise DatasetUnavailableError(f"{name} is data of its own; give its run, in place of the file")
    data = load(metadata["dataset"], data_dir)
    if data.sha256 != (expected := metadata.get("dataset_sha256")):
        raise DatasetError(f"{data.name} must have sha256 {expected}, as its file says; got {data.sha256}")
    return data.test
