# /// script
# dependencies = ["tinygrad", "numpy"]
# ///
"""tinygrad on the CPU (it calls clang): compiles one program per batch size."""

from functools import cache
from importlib.metadata import version

from contract import main
from tinygrad import Tensor, TinyJit
from tinygrad.nn.onnx import OnnxRunner


def load(path):
    @cache
    def program(size):
        runner = OnnxRunner(path)
        return TinyJit(lambda images: next(iter(runner({"images": images}).values())).realize())

    return lambda images: program(len(images))(Tensor(images)).numpy()


main(load, version("tinygrad"))
