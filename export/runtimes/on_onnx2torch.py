# /// script
# requires-python = "==3.11.*"
# dependencies = ["onnx2torch", "torch", "numpy"]
# ///
"""PyTorch, by onnx2torch, which makes a module of the file."""

import sys
from importlib.metadata import version
from unittest.mock import MagicMock

# Imported for operators of object detection, which no classifier has; it seldom fits a torch for the CPU.
sys.modules["torchvision"] = sys.modules["torchvision.ops"] = MagicMock()

import onnx2torch
import torch
from contract import main


def load(path):
    module = onnx2torch.convert(path).eval()

    def ask(images):
        with torch.inference_mode():
            return module(torch.from_numpy(images)).numpy()

    return ask


main(load, f"{version('onnx2torch')}, torch {torch.__version__}")
