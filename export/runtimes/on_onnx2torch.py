# /// script
# requires-python = "==3.11.*"
# dependencies = ["onnx2torch", "torch", "numpy"]
# ///
"""PyTorch: onnx2torch converts the file to a module."""

import sys
from importlib.metadata import version
from unittest.mock import MagicMock

# onnx2torch imports torchvision for object detection, unused here; its version seldom matches torch's.
sys.modules["torchvision"] = sys.modules["torchvision.ops"] = MagicMock()

import onnx2torch
import torch
from contract import main


def load(path):
    module = onnx2torch.convert(path).eval()

    def run(images):
        with torch.inference_mode():
            return module(torch.from_numpy(images)).numpy()

    return run


main(load, f"{version('onnx2torch')}, torch {torch.__version__}")
