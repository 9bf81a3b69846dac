"""The programs to compare with: each a short script in an environment and a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from mnist_jax.errors import RunError, SpecError
from mnist_jax.settings import check_one_of

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset
    from mnist_jax.networks import Network

RIVALS = Path(__file__).parent / "rivals"


class Rival(NamedTuple):
    """A program to measure: its script, what it needs installed, and its environment variables."""

    script: str
    packages: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


# A plain torch brings gigabytes of CUDA: where pip finds a CPU build, this version is it.
TORCH = ("torch==2.13.0", "numpy")
OURS = "mnist-jax"
ENVIRONMENTS = Path(tempfile.gettempdir()) / "mnist-jax-peers"
KERAS = Rival("keras_fit.py", ("keras", "tensorflow-cpu"), (("KERAS_BACKEND", "tensorflow"),))
KERAS_ON_JAX = Rival("keras_fit.py", ("keras", "jax"), (("KERAS_BACKEND", "jax"),))
TRAINERS = {
    OURS: Rival("ours.py"),
    "jax, a jitted step in a loop": Rival("jax_loop.py"),
    "keras fit, tensorflow": KERAS,
    "keras fit, jax": KERAS_ON_JAX,
    "pytorch, fused adam": Rival("pytorch.py", TORCH),
    "pytorch, torch.compile": Rival("pytorch.py", TORCH, (("COMPILE", "1"),)),
}
ANSWERERS = {
    OURS: Rival("ours.py"),
    "onnx runtime": Rival("onnx_file.py"),
    "keras predict, tensorflow": KERAS,
    "keras predict, jax": KERAS_ON_JAX,
    "pytorch": Rival("pytorch.py", TORCH),
    "pytorch, torch.compile": Rival("pytorch.py", TORCH, (("COMPILE", "1"),)),
}


def chosen(rivals: Mapping[str, Rival], names: list[str] | None) -> dict[str, Rival]:
    """Ours and those that are named; all where none is.

    Raises:
        SpecError: there is no such rival.
    """
    for name in names or ():
        check_one_of("peer", name, tuple(rivals))
    return {name: rivals[name] for name in dict.fromkeys((OURS, *(names or rivals)))}


Environments = Annotated[
    Path, typer.Option(metavar="DIR", help="Where the peers' environments are made, and kept.")
]
Python = Annotated[str, typer.Option(metavar="EXE", help="The Python of the peers' environments.")]


@contextmanager
def started(
    rivals: Mapping[str, Rival],
    folder: Path,
    python: str,
    data: "Dataset",
    spec: "Network",
    batch_size: int,
) -> "Iterator[dict[str, Process]]":
    """All of them at work on the same data and network, and ended at the end."""
    import numpy as np

    network = _network(spec)
    executables = {name: environment(rival, folder, python) for name, rival in rivals.items()}
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "data.npz"
        np.savez(
            path,
            train_images=data.train.images,
            train_labels=data.train.labels,
            test_images=data.test.images,
            test_labels=data.test.labels,
            network=network,
            batch_size=batch_size,
        )
        processes = {name: Process(rival, executables[name], path) for name, rival in rivals.items()}
        try:
            for process in processes.values():
                process.versions = process.hear()["versions"]
            yield processes
        finally:
            for process in processes.values():
                process.end()


class Process:
    """A rival at work."""

    def __init__(self, rival: Rival, python: str, data: Path) -> None:
        self.script, self.said = rival.script, tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, str(RIVALS / rival.script), str(data)],
            env={**os.environ, **dict(rival.variables)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )
        self.versions: dict[str, str] = {}

    def ask(self, what: str) -> dict[str, Any]:
        """Says a line, and hears the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next line that it says.

        Raises:
            RunError: it has ended.
        """
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            self.said.seek(0)
            said = self.said.read().strip().splitlines() or ["nothing"]
            raise RunError(f"{self.script} must answer; it ended, saying: {said[-1]}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def end(self) -> None:
        """Ends it, whatever it is doing."""
        self.process.kill()
        self.process.communicate()
        self.said.close()


def _network(spec: "Network") -> str:
    """The network as the rivals' scripts take it."""
    from mnist_jax.networks import CNN

    if {*spec.activations, spec.output, getattr(spec, "activation", "relu")} != {"relu", "softmax"}:
        raise SpecError(f"the peers are of relu and softmax; got {spec}")
    if isinstance(spec, CNN):
        names = ("dense", "channels", "kernel", "padding", "pool")
        return json.dumps({name: getattr(spec, name) for name in names})
    return json.dumps({"dense": spec.hidden})


def environment(rival: Rival, folder: Path, python: str) -> str:
    """The Python that has what a rival needs, made where it is not there yet."""
    if not rival.packages:
        return sys.executable
    name = "-".join(package.partition("=")[0] for package in rival.packages)
    executable = folder / name / "bin" / "python"
    if not (folder / name / "done").exists():
        print(f"installing {', '.join(rival.packages)}", file=sys.stderr, flush=True)  # noqa: T201
        for command in (
            [python, "-m", "venv", "--clear", str(folder / name)],
            [str(executable), "-m", "pip", "install", "--quiet", *rival.packages],
            [str(executable), "-m", "compileall", "-q", str(folder / name / "lib")],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and "pip" in command:
                reason = (done.stderr.splitlines() or ["no reason given"])[-1]
                raise RunError(f"pip must be able to install {', '.join(rival.packages)}; it says: {reason}")
        (folder / name / "done").touch()
    return str(executable)
