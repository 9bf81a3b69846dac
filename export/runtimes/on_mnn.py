# /// script
# dependencies = ["MNN", "numpy"]
# ///
"""MNN, Alibaba's runtime: the file is converted to its own format first.

By the function inside `mnnconvert`: the command itself installs further packages with the first `pip` that it
finds, and reports its use to a server.
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
        # Unless its weights are rearranged when it is loaded, a convolution is ten times less exact.
        module = nn.load_module_from_file(converted, [], [], rearrange=True)

    def ask(images):
        dtype = expr.uint8 if images.dtype == np.uint8 else expr.float
        value = expr.placeholder(list(images.shape), expr.NCHW, dtype)
        value.write(images)
        return module.forward(value).read().copy()  # the memory is used again

    return ask


main(load, MNN.version())
