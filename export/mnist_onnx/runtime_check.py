"""Run a file in other runtimes, each a short program in an environment of its own.

The programs are in `export/runtimes`; their `contract.py` documents the arguments and output they share.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_jax.config.validation import check_choice
from mnist_jax.errors import ModelError, RuntimeUnavailableError
from mnist_onnx.parity_cases import ParityCase
from mnist_onnx.runtime_envs import PROGRAMS, RUNTIMES, Runtime, environment, error_line

TIMEOUT_S = 1800  # seconds for all images: onnx-reference takes 15 minutes for a large convolution
SIZES = (1, 7, 1000)  # the batch sizes that every runtime runs, one after the other in one session


class Answers(NamedTuple):
    """The outputs of a runtime.

    Attributes:
        values: float32 `[n, classes]`.
        version: the version of the runtime.
        seconds: the time for all images, after a warm-up.
    """

    values: np.ndarray
    version: str
    seconds: float


class RuntimeCheck(NamedTuple):
    """The result of running a file in another runtime and comparing it with JAX.

    Attributes:
        passed: whether all outputs are within tolerance in every batch size, on images and noise.
        loads: whether the runtime could run the file at all.
        dynamic_batch: whether it ran batches of 1, 7 and 1,000 images in one session.
        same_answers: the number of test images with JAX's predicted class, ties included.
        n: the number of test images.
        noise: the number of further inputs compared.
        disagreements: the number of inputs, noise included, with another predicted class.
        max_abs_difference: the largest difference on the test images; None without outputs.
        seconds: the time for 10,000 images, extrapolated from all inputs; None without outputs.
        version: the version of the runtime; empty without outputs.
        reason: why the check failed; empty if it passed.
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


def run_in_runtime(
    name: str, model: Path, pixels: np.ndarray, sizes: Sequence[int] = SIZES, *, num_classes: int = 10
) -> Answers:
    """Runs a file in another runtime.

    Args:
        name: one of `RUNTIMES`.
        model: the path of an ONNX file.
        pixels: `[n, 28, 28]`, uint8 or float32, in the dtype that the file takes.
        sizes: the sizes of the batches, in order; the last one repeats until no images are left.
        num_classes: the number of classes of the file.

    Raises:
        SpecError: there is no such runtime.
        RuntimeUnavailableError: the runtime or a dependency cannot be installed on this machine.
        ModelError: the runtime cannot load or run the file, or exceeds the timeout of half an hour.
    """
    check_choice("runtime", name, tuple(RUNTIMES))
    command, variables = _command(name, RUNTIMES[name])
    with tempfile.TemporaryDirectory() as folder:
        images, outputs = Path(folder) / f"images.{pixels.dtype}", Path(folder) / "outputs.float32"
        pixels.tofile(images)
        stdout = _run(
            [*command, str(model.resolve()), str(images), str(outputs), *map(str, sizes)],
            name,
            folder,
            variables,
        )
        values = np.fromfile(outputs, np.float32) if outputs.exists() else np.zeros(0, np.float32)
    if values.size != num_classes * len(pixels):
        raise ModelError(
            f"{name} must output {num_classes} values for each image; got {values.size:,} in all"
        )
    try:
        last = json.loads(stdout.splitlines()[-1])
        return Answers(values.reshape(-1, num_classes), str(last["version"]), float(last["seconds"]))
    except (IndexError, ValueError, KeyError, TypeError):
        raise ModelError(
            f"{name} must print its version and seconds as its last line; got {stdout[-100:]!a}"
        ) from None


def check_runtime(name: str, model: Path, case: ParityCase) -> RuntimeCheck:
    """Runs a file in another runtime and compares its outputs with JAX's.

    A runtime that cannot run the file is not an error: the result says why in its `reason`.

    Args:
        name: one of `RUNTIMES`.
        model: the path of an ONNX file.
        case: the inputs and expected outputs, from `parity_case`.

    Raises:
        SpecError: there is no such runtime.
        RuntimeUnavailableError: the runtime cannot be installed on this machine.
    """
    n, noise, classes = case.n, len(case.pixels) - case.n, case.logits.shape[1]
    try:
        result = run_in_runtime(name, model, case.pixels, num_classes=classes)
    except RuntimeUnavailableError:
        raise
    except ModelError as error:
        try:
            run_in_runtime(name, model, case.pixels[:3], (1,), num_classes=classes)
            loads = True
        except ModelError:
            loads = False
        return RuntimeCheck(False, loads, False, 0, n, noise, n + noise, None, None, "", str(error))
    passed, difference, mismatch = case.compare(result.values)
    count, largest = f"{mismatch.sum():,} of {n + noise:,}", f"{difference.max():.1e}"
    reason = f"{count} predictions differ; outputs differ by up to {largest}"
    return RuntimeCheck(
        passed=passed,
        loads=True,
        dynamic_batch=True,
        same_answers=n - int(mismatch[:n].sum()),
        n=n,
        noise=noise,
        disagreements=int(mismatch.sum()),
        max_abs_difference=float(difference[:n].max()),
        seconds=result.seconds * 10_000 / (n + noise),
        version=result.version,
        reason="" if passed else reason,
    )


def _run(command: list[str], name: str, folder: str, variables: dict[str, str]) -> str:
    """Runs a program and returns its stdout."""
    environment = {**os.environ, **variables}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{name} must finish within {TIMEOUT_S} s; it was killed") from None
    if done.returncode:
        raise ModelError(f"{name} cannot run the file; its error: {error_line(done.stderr, done.returncode)}")
    return done.stdout


def _command(name: str, runtime: Runtime) -> tuple[list[str], dict[str, str]]:
    """The command that starts a runtime's program, after installation, and its environment variables."""
    folder, program = environment(name, runtime), PROGRAMS / runtime.program
    # Its own `bin` comes first, so that a program that calls `pip` or `python` does not find the caller's.
    path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", "")])
    variables = {"PATH": path, "NODE_PATH": str(folder / "node_modules")}
    if program.suffix == ".cjs":
        return ["node", str(program)], variables
    if program.suffix == ".cpp":
        return [str(folder / "program")], variables
    return [str(folder / "bin" / "python"), str(program)], variables
