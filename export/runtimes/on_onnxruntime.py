# /// script
# dependencies = ["onnxruntime", "numpy"]
# ///
"""ONNX Runtime."""

import onnxruntime
from contract import main


def load(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


main(load, onnxruntime.__version__)
