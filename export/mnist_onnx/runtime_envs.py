"""The supported runtimes, and isolated environments for their programs in the user's cache.

An environment is created on first use. The programs are in `export/runtimes`; in the wheel, they are in
`mnist_onnx/programs`.
"""

import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from mnist_jax._utils.cache_dir import cache_dir
from mnist_jax.errors import RuntimeUnavailableError

_HERE = Path(__file__).parent
PROGRAMS = next(folder for folder in (_HERE / "programs", _HERE.parent / "runtimes") if folder.is_dir())


class Runtime(NamedTuple):
    """A runtime: the program that runs a file in it, and its dependencies.

    Attributes:
        program: a file in `PROGRAMS`.
        pip: Python packages, in the versions that were tested.
        npm: npm packages, in the versions that were tested.
        needs: executables that must be on the machine already.
        python: the version of Python, if it cannot be the one that runs this.
    """

    program: str
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    python: str = ""


_WEB = ("onnxruntime-web@1.30.0",)
_OPENVINO = "openvino==2026.4.1"
RUNTIMES = {
    "onnxruntime": Runtime("on_onnxruntime.py", ("onnxruntime==1.31.1", "numpy")),
    "onnxruntime-1.15": Runtime("on_onnxruntime.py", ("onnxruntime==1.15.1", "numpy<2"), python="3.11"),
    "onnx-reference": Runtime("on_reference.py", ("onnx==1.23.2", "numpy")),
    "opencv": Runtime("on_opencv.py", ("opencv-python-headless==5.0.0.93", "numpy")),
    "openvino": Runtime("on_openvino.py", (_OPENVINO, "numpy")),
    "opencv-4": Runtime("on_opencv.py", ("opencv-python-headless==4.14.0.94", "numpy")),
    "openvino-c++": Runtime("on_openvino.cpp", (_OPENVINO,), needs=("g++",)),
    "tract": Runtime("on_tract.py", ("tract==0.23.9", "numpy")),
    "onnxruntime-node": Runtime("on_node.cjs", npm=("onnxruntime-node@1.30.0",), needs=("node",)),
    "onnxruntime-web": Runtime("on_web.cjs", npm=_WEB, needs=("node",)),
    "chromium": Runtime("on_chromium.py", ("playwright==1.65.2",), _WEB, ("chromium",)),
    "tinygrad": Runtime("on_tinygrad.py", ("tinygrad==0.14.0", "numpy"), needs=("clang",)),
    "tvm": Runtime("on_tvm.py", ("apache-tvm==0.27.0.post1", "onnx==1.23.2", "numpy")),
    "iree": Runtime("on_iree.py", ("iree-base-compiler[onnx]==3.13.0", "iree-base-runtime==3.13.0", "numpy")),
    "mnn": Runtime("on_mnn.py", ("MNN==3.6.1", "numpy")),
    "onnx2torch": Runtime(
        "on_onnx2torch.py", ("onnx2torch==1.5.15", "torch==2.13.0", "numpy"), python="3.11"
    ),
}


def environment(name: str, runtime: Runtime) -> Path:
    """The folder of a runtime's environment, created if it does not exist yet.

    Args:
        name: the name of the runtime.
        runtime: its program and dependencies.

    Raises:
        RuntimeUnavailableError: a dependency cannot be installed.
    """
    import filelock

    for tool in runtime.needs:
        _check_installed(tool, name)
    source = (PROGRAMS / runtime.program).read_text() if runtime.program.endswith(".cpp") else ""
    key = json.dumps([runtime, platform.python_version(), source])  # the source, as the folder has its binary
    folder = cache_dir() / "runtimes" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            for command in _steps(runtime, folder):
                _install(command, name)
            (folder / "done").touch()
    return folder


def _steps(runtime: Runtime, folder: Path) -> "list[list[str]]":
    """The commands that create an environment."""
    steps = []
    if runtime.pip:
        uv = os.environ.get("UV", "uv")  # `uv run` sets UV to its own path
        python = str(folder / "bin" / "python")
        version = runtime.python or sys.executable
        steps.append(
            [uv, "venv", "--quiet", "--no-project", "--seed", "--clear", "--python", version, str(folder)]
        )
        steps.append([python, "-m", "pip", "install", "--quiet", *runtime.pip])
    if runtime.npm:
        npm = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
        steps.append([*npm, *runtime.npm])
    if runtime.program.endswith(".cpp"):
        steps.append(["sh", str(PROGRAMS / "build.sh"), str(PROGRAMS / runtime.program), str(folder)])
    return steps


def _install(command: list[str], name: str) -> None:
    _check_installed(command[0], name)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        error = error_line(done.stderr, done.returncode)
        raise RuntimeUnavailableError(
            f"{name} cannot be installed here; the error of {Path(command[0]).name}: {error}"
        )


def _check_installed(tool: str, name: str) -> None:
    if shutil.which(tool) is None:
        raise RuntimeUnavailableError(f"{name} needs {tool}, which is not on this machine; install it")


def error_line(stderr: str, code: int) -> str:
    """The error message of a failed program in one line, as Python, Node.js and pip print it.

    Args:
        stderr: what the program printed on stderr.
        code: its exit code.
    """
    lines = stderr.splitlines()
    named = [index for index, line in enumerate(lines) if re.match(r"[\w.]+: \S", line)]
    if named:
        rest = itertools.takewhile(lambda line: not line.lstrip().startswith("at "), lines[named[-1] :])
        return " ".join(" ".join(rest).split())[:300]
    errors = [line for line in lines if "rror" in line] or lines[-1:]
    if errors:
        return errors[0].strip()[:300]
    return f"no output, killed by signal {-code}" if code < 0 else f"no output, exit code {code}"
