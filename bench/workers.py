"""Baselines: short scripts to compare with, each in an environment and a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax.config.validation import check_choice
from mnist_jax.errors import RunError, SpecError

if TYPE_CHECKING:
    from mnist_jax.config.networks import Network
    from mnist_jax.data.datasets import Dataset

BASELINES = Path(__file__).parent / "baselines"


class Baseline(NamedTuple):
    """A program to measure.

    Attributes:
        script: its file in `baselines/`.
        packages: the packages to install in its environment; empty for the environment of this process.
        variables: its environment variables.
    """

    script: str
    packages: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


# The default build of torch has gigabytes of CUDA; this version also exists as a CPU build.
TORCH = ("torch==2.13.0", "numpy")
OURS = "mnist-jax"
KERAS = Baseline("keras_fit.py", ("keras", "tensorflow-cpu"), (("KERAS_BACKEND", "tensorflow"),))
KERAS_ON_JAX = Baseline("keras_fit.py", ("keras", "jax"), (("KERAS_BACKEND", "jax"),))
TRAINERS = {
    OURS: Baseline("ours.py"),
    "jax, a jitted step in a loop": Baseline("jax_loop.py"),
    "keras fit, tensorflow": KERAS,
    "keras fit, jax": KERAS_ON_JAX,
    "pytorch, fused adam": Baseline("pytorch.py", TORCH),
    "pytorch, torch.compile": Baseline("pytorch.py", TORCH, (("COMPILE", "1"),)),
}
PREDICTORS = {
    OURS: Baseline("ours.py"),
    "onnx runtime": Baseline("onnx_file.py"),
    "keras predict, tensorflow": KERAS,
    "keras predict, jax": KERAS_ON_JAX,
    "pytorch": Baseline("pytorch.py", TORCH),
    "pytorch, torch.compile": Baseline("pytorch.py", TORCH, (("COMPILE", "1"),)),
}


def select(baselines: Mapping[str, Baseline], names: list[str] | None) -> dict[str, Baseline]:
    """Selects mnist-jax and the named baselines; all baselines without names.

    Raises:
        SpecError: there is no such baseline.
    """
    for name in names or ():
        check_choice("peer", name, tuple(baselines))
    return {name: baselines[name] for name in dict.fromkeys((OURS, *(names or baselines)))}


@contextmanager
def running(
    baselines: Mapping[str, Baseline],
    folder: Path,
    python: str,
    data: "Dataset",
    spec: "Network",
    batch_size: int,
) -> "Iterator[dict[str, Process]]":
    """Starts all baselines on the same data and network, and kills them at the end.

    Args:
        baselines: the baselines by name.
        folder: where their environments are.
        python: the Python for new environments.
        data: the data set.
        spec: the network, with ReLU and softmax.
        batch_size: examples per training step.
    """
    import numpy as np

    network = _network(spec)
    executables = {name: environment(baseline, folder, python) for name, baseline in baselines.items()}
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
        processes = {
            name: Process(
                baseline.script,
                [executables[name], str(BASELINES / baseline.script), str(path)],
                dict(baseline.variables),
            )
            for name, baseline in baselines.items()
        }
        try:
            for process in processes.values():
                process.versions = process.receive()["versions"]
            yield processes
        finally:
            for process in processes.values():
                process.kill()


class Process:
    """A process that answers each line of its stdin with a line of JSON."""

    def __init__(self, name: str, command: list[str], variables: Mapping[str, str]) -> None:
        self.name, self.stderr = name, tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
        )
        self.versions: dict[str, str] = {}

    def request(self, line: str) -> Any:
        """Sends a line and returns the response (see `baselines/protocol.py`)."""
        self.send(line)
        return self.receive()

    def send(self, line: str) -> None:
        """Sends a line, without waiting for the response."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """The next response.

        Raises:
            RunError: the process has exited.
        """
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            self.stderr.seek(0)
            lines = self.stderr.read().strip().splitlines() or ["none"]
            raise RunError(f"{self.name} must respond; it exited; its error: {lines[-1]}")
        return json.loads(line)

    def kill(self) -> None:
        """Kills the process and closes its files."""
        self.process.kill()
        self.process.communicate()
        self.stderr.close()


def _network(spec: "Network") -> str:
    """The network as JSON for the scripts."""
    from mnist_jax.config.networks import CNN

    if {*spec.activations, spec.output, getattr(spec, "activation", "relu")} != {"relu", "softmax"}:
        raise SpecError(f"the network must have relu and softmax, as the baselines do; got {spec}")
    if isinstance(spec, CNN):
        convolutions = {"channels": spec.channels, "kernel": spec.kernel_size, "padding": spec.padding}
        return json.dumps({"dense": spec.dense_sizes, **convolutions, "pool": spec.pool})
    return json.dumps({"dense": spec.hidden_sizes})


def environment(baseline: Baseline, folder: Path, python: str) -> str:
    """The Python of a baseline's environment, created if it does not exist yet.

    Raises:
        RunError: a package cannot be installed.
    """
    if not baseline.packages:
        return sys.executable
    name = "-".join(package.partition("=")[0] for package in baseline.packages)
    executable = folder / name / "bin" / "python"
    if not (folder / name / "done").exists():
        print(f"installing {', '.join(baseline.packages)}", file=sys.stderr, flush=True)  # noqa: T201
        for command in (
            [python, "-m", "venv", "--clear", str(folder / name)],
            [str(executable), "-m", "pip", "install", "--quiet", *baseline.packages],
            [str(executable), "-m", "compileall", "-q", str(folder / name / "lib")],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and "pip" in command:
                reason = (done.stderr.splitlines() or ["none"])[-1]
                raise RunError(
                    f"pip must be able to install {', '.join(baseline.packages)}; its error: {reason}"
                )
        (folder / name / "done").touch()
    return str(executable)
