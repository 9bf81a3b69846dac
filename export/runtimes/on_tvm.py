# /// script
# dependencies = ["apache-tvm", "onnx", "numpy"]
# ///
"""Apache TVM: converts the file to a Relax program and compiles it for this CPU."""

import onnx
import tvm
from contract import main
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx


def load(path):
    module = relax.get_pipeline("default")(from_onnx(onnx.load(path)))
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    return lambda images: machine["main"](tvm.runtime.tensor(images)).numpy()


main(load, tvm.__version__)
