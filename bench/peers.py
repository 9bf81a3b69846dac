"""`bench peers`: the same training, by what people would use instead, taking turns in one run."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from bench import report
from bench.clock import summarize
from mnist_jax.errors import RunError

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset
    from mnist_jax.networks import Spec

RIVALS = Path(__file__).parent / "rivals"
CLOCK = (
    "One epoch of the same network, batches, loss and Adam, each program in a process of its own, taking "
    "turns; the clock is the program's own, from the call for an epoch until its parameters are ready; one "
    "epoch before is not on it. Median, fastest and slowest; ratios are to mnist-jax in the same round."
)


class Rival(NamedTuple):
    """A program to measure: its script, what it needs installed, and its environment variables."""

    script: str
    packages: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


# A plain torch brings gigabytes of CUDA: where pip finds a CPU build, this version is it.
TORCH = ("torch==2.13.0", "numpy")
OURS = "mnist-jax"
ENVIRONMENTS = Path(tempfile.gettempdir()) / "mnist-jax-peers"
PEERS = {
    OURS: Rival("ours.py"),
    "jax, a jitted step in a loop": Rival("jax_loop.py"),
    "keras fit, tensorflow": Rival(
        "keras_fit.py", ("keras", "tensorflow-cpu"), (("KERAS_BACKEND", "tensorflow"),)
    ),
    "keras fit, jax": Rival("keras_fit.py", ("keras", "jax"), (("KERAS_BACKEND", "jax"),)),
    "pytorch, fused adam": Rival("pytorch.py", TORCH),
    "pytorch, torch.compile": Rival("pytorch.py", TORCH, (("COMPILE", "1"),)),
}


def peers(
    names: Annotated[
        list[str] | None, typer.Option("--peer", metavar="P", help="May be repeated. (default: all)")
    ] = None,
    preset_name: Annotated[str, typer.Option("--preset", metavar="P", help="Which network.")] = "mlp-100",
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option("--batch-size", metavar="N", help="May be repeated."),
    ] = None,
    dataset: Annotated[str, typer.Option(metavar="D", help="What to train on.")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it is.")] = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Epochs that are timed.")] = 5,
    environments: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the peers' environments are made, and kept.")
    ] = ENVIRONMENTS,
    python: Annotated[
        str, typer.Option(metavar="EXE", help="The Python of the peers' environments.")
    ] = sys.executable,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write JSON, Markdown and a plot.")] = None,
) -> None:
    """Seconds per epoch of Keras, PyTorch and plain JAX loops beside ours, with the accuracy of each.

    Example: python -m bench peers --batch-size 32 --python python3.11
    """
    from mnist_jax import load, preset
    from mnist_jax.settings import check_one_of, check_whole

    check_whole("repeats", repeats)
    for name in names or ():
        check_one_of("peer", name, tuple(PEERS))
    chosen = {name: PEERS[name] for name in dict.fromkeys((OURS, *(names or PEERS)))}
    data = load(dataset, data_dir, validation_fraction=0.0)
    network = _network(preset(preset_name).config.model)
    result = report.new("peers", CLOCK) | {"dataset": dataset, "preset": preset_name, "epochs": repeats + 1}
    executables = {name: _environment(rival, environments, python) for name, rival in chosen.items()}
    for size in batch_sizes or (32, 128):
        result["rows"] += _compare(chosen, executables, data, network, size, repeats)
    report.finish(result, COLUMNS, _plot, out)


def _network(spec: "Spec") -> str:
    """The network as the rivals' scripts take it."""
    from mnist_jax import CNN
    from mnist_jax.errors import SpecError

    if {*spec.activations, spec.output, getattr(spec, "activation", "relu")} != {"relu", "softmax"}:
        raise SpecError(f"the peers are of relu and softmax; got {spec}")
    if isinstance(spec, CNN):
        names = ("dense", "channels", "kernel", "padding", "pool")
        return json.dumps({name: getattr(spec, name) for name in names})
    return json.dumps({"dense": spec.hidden})


def _environment(rival: Rival, folder: Path, python: str) -> str:
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


def _compare(
    rivals: dict[str, Rival],
    executables: dict[str, str],
    data: "Dataset",
    network: str,
    batch_size: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Starts all, lets them take turns, and asks each what it has learned."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(
            path,
            train_images=data.train.images,
            train_labels=data.train.labels,
            test_images=data.test.images,
            test_labels=data.test.labels,
            network=network,
            batch_size=batch_size,
        )
        started = {name: _Process(rival, executables[name], path) for name, rival in rivals.items()}
        try:
            for process in started.values():
                process.ask("epoch")
            seconds: dict[str, list[float]] = {name: [] for name in rivals}
            for _ in range(repeats):
                for name, process in started.items():
                    time.sleep(0.3)  # for the threads of the last one to go to sleep
                    seconds[name].append(process.ask("epoch")["seconds"])
            accuracies = {name: process.ask("score")["accuracy"] for name, process in started.items()}
        finally:
            for process in started.values():
                process.end()
    return [
        {
            "peer": name,
            "batch_size": batch_size,
            "versions": started[name].versions,
            "epoch_seconds": summarize(seconds[name])._asdict(),
            "ratio": statistics.median(a / b for a, b in zip(seconds[name], seconds[OURS], strict=True)),
            "ratio_low": min(a / b for a, b in zip(seconds[name], seconds[OURS], strict=True)),
            "ratio_high": max(a / b for a, b in zip(seconds[name], seconds[OURS], strict=True)),
            "test_accuracy": accuracies[name],
        }
        for name in rivals
    ]


class _Process:
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
        self.versions = self._hear()["versions"]

    def ask(self, what: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            self.said.seek(0)
            said = self.said.read().strip().splitlines() or ["nothing"]
            raise RunError(f"{self.script} must answer; it ended, saying: {said[-1]}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.said.close()


COLUMNS = (
    ("batch", lambda row: str(row["batch_size"])),
    ("program", lambda row: row["peer"]),
    ("versions", lambda row: ", ".join(f"{name} {number}" for name, number in row["versions"].items())),
    ("s/epoch", lambda row: "{median:.2f} ({low:.2f} to {high:.2f})".format(**row["epoch_seconds"])),
    ("ratio", lambda row: f"{row['ratio']:.1f} ({row['ratio_low']:.1f} to {row['ratio_high']:.1f})"),
    ("test accuracy", lambda row: f"{row['test_accuracy']:.2%}"),
)


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    labels = [f"{row['peer']}, batch {row['batch_size']}" for row in rows]
    axes.barh(labels[::-1], [row["ratio"] for row in rows][::-1])
    axes.set(xlabel="times mnist-jax's seconds per epoch (shorter is faster)", title="The same training")
