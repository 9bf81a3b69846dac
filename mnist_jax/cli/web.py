"""`mnist-jax web`: the page to draw on, as a folder."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_jax import runs
from mnist_jax.cli import console, options
from mnist_jax.errors import DatasetUnavailableError, RunError


def web(
    run_dir: options.RunDir,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="A new directory, or one that `web` wrote before.")
    ] = Path("site"),
    data_dir: options.DataDir = None,
) -> None:
    """Write the page to draw on, with a run's network in it, as a folder for any static host.

    Needs npm, once, for the files of onnxruntime-web.

    Example: mnist-jax web runs/my-run --out site
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"--out must name a directory; {out} is a file")
    files = page(run_dir, data_dir)
    from mnist_jax.files import TEMPORARY, write_atomic

    there = [path for path in out.rglob("*") if path.is_file() and not TEMPORARY.fullmatch(path.name)]
    theirs = [path for path in there if str(path.relative_to(out)) not in files]
    if theirs or (there and not (out / "app.js").exists()):
        name = (theirs or there)[0].name
        raise RunError(f"--out must be a new directory, or one that web wrote; {out} holds {name}")

    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out / name, data)
    total = sum(map(len, files.values()))
    print(f"{out} ({len(files)} files, {total / 1e6:.1f} MB); host it anywhere")  # noqa: T201


def page(run_dir: Path, data_dir: Path | None) -> dict[str, bytes]:
    """The page's files, by their paths, with the network that a run has left.

    Raises:
        ModelError: the run's file is damaged, or is not the one that was written.
        RuntimeUnavailableError: the browser's runtime can't be had.
    """
    run = runs.read(run_dir)
    from mnist_jax.cli.experiment import load_for
    from mnist_onnx.site import site
    from mnist_onnx.storage import load_with_facts

    spec, params, facts = load_with_facts(run_dir / runs.MODEL)  # which takes nothing on trust
    try:
        test = load_for(run, data_dir).test
    except DatasetUnavailableError as error:
        console.note(f"no random test digits on the page: {error}")
        test = None
    return site(spec, params, facts, test)
