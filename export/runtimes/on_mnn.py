# /// script
# dependencies = ["MNN", "numpy"]
# ///
"""MNN, Alibaba's runtime: converts the file to its own format first.

Calls the function inside `mnnconvert`, because the command itself installs further packages with the first
`pip` on the PATH and reports its use to a server.
"""

import tempfile
from pathlib import Path

import _tools  # MNN's
import MNN
import numpy as np
from contract import main
from MNN import expr, nn


def load(path):
    with tempfile.TemporaryDirectory() as folder:
        converted = str(Path(folder) / "model.mnn")
        options = {"--framework": "ONNX", "--modelFile": path, "--MNNModel": converted, "--bizCode": "mnist"}
        _tools.mnnconvert(["mnnconvert", *(part for option in options.items() for part in option)])
        # Without `rearrange`, the error of a convolution is ten times larger.
        module = nn.load_module_from_file(converted, [], [], rearrange=True)

    def run(images):
        dtype = expr.uint8 if images.dtype == np.uint8 else expr.float
        value = expr.placeholder(list(images.shape), expr.NCHW, dtype)
        value.write(images)
        return module.forward(value).read().copy()  # MNN reuses the memory

    return run


main(load, MNN.version())
