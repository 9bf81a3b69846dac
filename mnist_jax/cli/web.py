"""`mnist-jax web`: the page to draw on, as a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_jax import runs
from mnist_jax.cli import console, options
from mnist_jax.cli.process import start_jax
from mnist_jax.errors import DatasetError, DatasetUnavailableError, RunError

if TYPE_CHECKING:
    from mnist_jax.types import HeldOut


def web(
    model: options.RunOrFile,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="A new directory, or one that `web` wrote before.")
    ] = Path("site"),
    data_dir: options.DataDir = None,
) -> None:
    """Write the page to draw on, with a trained network in it, as a folder for any static host.

    Needs npm, once, for the files of onnxruntime-web.

    Example: mnist-jax web runs/my-run --out site
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"--out must name a directory; {out} is a file")
    files = page(model, data_dir)
    from mnist_jax.files import remove, target, temporaries, write_atomic

    pages = [out / name for name in files]
    # What a killed process has left of the page is not to go online with it.
    folders = {path.parent for path in pages}
    remove(left for folder in folders for left in temporaries(folder) if folder / target(left) in pages)
    there = [path for path in out.rglob("*") if path.is_file()]
    theirs = [path for path in there if path not in pages]
    if theirs or (there and not (out / "app.js").exists()):
        name = (theirs or there)[0].name
        raise RunError(f"--out must be a new directory, or one that web wrote; {out} holds {name}")

    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out / name, data)
    total = sum(map(len, files.values()))
    print(f"{out} ({len(files)} files, {total / 1e6:.1f} MB); host it anywhere")  # noqa: T201


def page(model: Path, data_dir: Path | None) -> dict[str, bytes]:
    """The page's files, by their paths, with the network of a file, or that a run has left.

    Raises:
        ModelError: the file is damaged, or is not the one that was written.
        DatasetError: the data set that it names is another here.
        RuntimeUnavailableError: the browser's runtime can't be had.
    """
    if model.suffix != ".onnx":
        runs.read(model)
    start_jax()
    from mnist_onnx.site import site
    from mnist_onnx.storage import load_with_facts

    spec, params, facts = load_with_facts(model if model.suffix == ".onnx" else model / runs.MODEL)
    try:
        test = _test_set(facts, data_dir)
    except DatasetUnavailableError as error:
        console.note(f"no random test digits on the page: {error}")
        test = None
    return site(spec, params, facts, test)


def _test_set(facts: Mapping[str, str], data_dir: Path | None) -> "HeldOut | None":
    """The test set of the data that a file says it was trained on, if it says so."""
    from mnist_jax.datasets import load

    if "dataset" not in facts:
        return None
    data = load(facts["dataset"], data_dir)
    if data.sha256 != (expected := facts.get("dataset_sha256")):
        raise DatasetError(f"{data.name} must have sha256 {expected}, as its file says; got {data.sha256}")
    return data.test
