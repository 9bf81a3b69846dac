# /// script
# dependencies = ["onnx", "numpy"]
# ///
"""onnx's own evaluator: slow, the reference implementation of the standard."""

import onnx
from contract import main
from onnx.reference import ReferenceEvaluator


def load(path):
    evaluator = ReferenceEvaluator(path)
    return lambda images: evaluator.run(None, {"images": images})[0]


main(load, onnx.__version__)
