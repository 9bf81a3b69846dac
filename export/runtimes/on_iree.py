# /// script
# dependencies = ["iree-base-compiler[onnx]", "iree-base-runtime", "numpy"]
# ///
"""IREE: compiles the file to a program for this CPU."""

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import iree.compiler
import iree.runtime
from contract import main


def load(path):
    with tempfile.TemporaryDirectory() as folder:
        mlir = str(Path(folder) / "model.mlir")
        convert = [sys.executable, "-m", "iree.compiler.tools.import_onnx", path, "-o", mlir]
        subprocess.run(convert, check=True)
        program = iree.compiler.compile_file(
            mlir,
            target_backends=["llvm-cpu"],
            input_type="onnx",
            extra_args=["--iree-llvmcpu-target-cpu=host"],
        )
    module = iree.runtime.load_vm_flatbuffer(program, driver="local-task")
    return lambda images: module["mnist_jax"](images).to_host()  # the name of the graph


main(load, version("iree-base-runtime"))
