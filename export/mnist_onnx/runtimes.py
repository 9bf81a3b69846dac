"""Other runtimes: each a short program beside this package, run in an environment of its own.

What the programs have in common is told in their `contract.py`.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_jax.errors import ModelError, RuntimeUnavailableError
from mnist_jax.networks import CLASSES
from mnist_jax.settings import check_one_of
from mnist_onnx.environments import PROGRAMS, RUNTIMES, Runtime, environment, reason
from mnist_onnx.questions import Question

PATIENCE = 1800  # seconds for all answers: onnx-reference takes 15 minutes for a large convolution
SIZES = (1, 7, 1000)  # the batches that every runtime is asked with, one after the other in one session


class Answers(NamedTuple):
    """What a runtime answered.

    Attributes:
        values: float32 `[n, 10]`.
        version: the runtime's.
        seconds: for all images, once it was warm.
    """

    values: np.ndarray
    version: str
    seconds: float


class Examination(NamedTuple):
    """How a runtime did with a file.

    Attributes:
        passed: it answered in every batch size, within tolerance, on noise as well.
        loads: it answered at all.
        dynamic_batch: it took 1, 7 and 1,000 images one after the other.
        same_answers: test images with JAX's answer (or with one that is as good, in a tie).
        n: test images.
        noise: pictures compared besides.
        disagreements: pictures, noise included, with another answer.
        max_abs_difference: the largest on the test images; None without answers.
        seconds: for 10,000 images, from all of them in these batches; None without answers.
        version: of the runtime; empty without answers.
        reason: why it failed; empty where it passed.
    """

    passed: bool
    loads: bool
    dynamic_batch: bool
    same_answers: int
    n: int
    noise: int
    disagreements: int
    max_abs_difference: float | None
    seconds: float | None
    version: str
    reason: str


def ask(name: str, model: Path, pixels: np.ndarray, sizes: Sequence[int] = SIZES) -> Answers:
    """The answers of a runtime to images, in batches of the given sizes, the last one again and again.

    Args:
        name: one of `RUNTIMES`.
        model: an ONNX file.
        pixels: `[n, 28, 28]`, uint8 or float32, as the file takes them.
        sizes: of the batches, cut off the images one after the other.

    Raises:
        SpecError: there is no such runtime.
        RuntimeUnavailableError: it, or what it needs, can't be installed on this machine.
        ModelError: it can't load or run the file, or doesn't answer in half an hour.
    """
    check_one_of("runtime", name, tuple(RUNTIMES))
    command, variables = _command(name, RUNTIMES[name])
    with tempfile.TemporaryDirectory() as folder:
        images, answers = Path(folder) / f"images.{pixels.dtype}", Path(folder) / "answers.float32"
        pixels.tofile(images)
        said = _run(
            [*command, str(model.resolve()), str(images), str(answers), *map(str, sizes)],
            name,
            folder,
            variables,
        )
        values = np.fromfile(answers, np.float32) if answers.exists() else np.zeros(0, np.float32)
    if values.size != CLASSES * len(pixels):
        raise ModelError(f"{name} must give {CLASSES} numbers for each image; got {values.size:,} in all")
    try:
        last = json.loads(said.splitlines()[-1])
        return Answers(values.reshape(-1, CLASSES), str(last["version"]), float(last["seconds"]))
    except (IndexError, ValueError, KeyError, TypeError):
        raise ModelError(f"{name} must say its version and its seconds last; got {said[-100:]!a}") from None


def examine(name: str, model: Path, asked: Question) -> Examination:
    """How a runtime does with a file; what it can't do is a reason, not an error.

    Raises:
        SpecError: there is no such runtime.
        RuntimeUnavailableError: it can't be installed on this machine.
    """
    n, noise = asked.n, len(asked.pixels) - asked.n
    try:
        found = ask(name, model, asked.pixels)
    except RuntimeUnavailableError:
        raise
    except ModelError as error:
        try:
            ask(name, model, asked.pixels[:3], (1,))
            loads = True
        except ModelError:
            loads = False
        return Examination(False, loads, False, 0, n, noise, n + noise, None, None, "", str(error))
    passed, off, other = asked.judge(found.values)
    wrong = f"{other.sum():,} of {n + noise:,} answers differ; the numbers by up to {off.max():.1e}"
    return Examination(
        passed=passed,
        loads=True,
        dynamic_batch=True,
        same_answers=n - int(other[:n].sum()),
        n=n,
        noise=noise,
        disagreements=int(other.sum()),
        max_abs_difference=float(off[:n].max()),
        seconds=found.seconds * 10_000 / (n + noise),
        version=found.version,
        reason="" if passed else wrong,
    )


def _run(command: list[str], name: str, folder: str, variables: dict[str, str]) -> str:
    """What the program says on stdout."""
    environment = {**os.environ, **variables}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{name} must answer within {PATIENCE} s; it was ended") from None
    if done.returncode:
        raise ModelError(f"{name} cannot run the file; it says: {reason(done.stderr, done.returncode)}")
    return done.stdout


def _command(name: str, runtime: Runtime) -> tuple[list[str], dict[str, str]]:
    """How to start its program, once all is installed; and the environment variables for it."""
    folder, program = environment(name, runtime), PROGRAMS / runtime.program
    # Its own `bin` goes first: a program that calls `pip` or `python` must not find those of the caller.
    path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", "")])
    variables = {"PATH": path, "NODE_PATH": str(folder / "node_modules")}
    if program.suffix == ".cjs":
        return ["node", str(program)], variables
    if program.suffix == ".cpp":
        return [str(folder / "program")], variables
    return [str(folder / "bin" / "python"), str(program)], variables
