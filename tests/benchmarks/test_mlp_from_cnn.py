"""An MLP that starts as a CNN computes what the CNN does, and the benchmark counts both networks."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.paths import ROOT

from bench.strided import StridedCNN, unrolled, windows
from mnist_jax.config.networks import FlaxModel
from mnist_jax.data.datasets import Dataset
from mnist_jax.nn.model import apply, init


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_windows_are_those_of_a_convolution(stride: int) -> None:
    maps = jax.random.normal(jax.random.key(0), (2, 12, 12, 3))
    kernel = jax.random.normal(jax.random.key(1), (3 * stride, 3 * stride, 3, 5))
    of_cells = kernel.reshape(3, stride, 3, stride, 3, 5).swapaxes(1, 2).reshape(-1, 5)
    expected = jax.lax.conv_general_dilated(
        maps, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(windows(maps, stride) @ of_cells, expected, atol=1e-4)


@pytest.mark.parametrize("channels", [(5,), (3, 7), (3, 5, 7)])
def test_the_mlp_computes_what_the_cnn_does(channels: tuple[int, ...], digits: Dataset) -> None:
    module = StridedCNN(channels, (9,))
    spec = FlaxModel(module)
    key = jax.random.key(0)
    variables = jax.tree.map(lambda leaf: 0.1 * jax.random.normal(key, leaf.shape), init(spec, key))
    images = digits.test.images[:50]
    logits = apply(module.as_mlp(), unrolled(module, variables), images)
    np.testing.assert_allclose(logits, apply(spec, variables, images), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_each_network_is_evaluated_once_and_counted(tmp_path: Path) -> None:
    short = ["--dataset", "digits", "--seeds", "1", "--epochs", "1"]
    command = [sys.executable, "-m", "bench", "mlp-from-cnn", *short, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    cnn, mlp, deeper = result["rows"]
    assert cnn["flops"] < mlp["flops"]
    assert cnn["parameters"] < deeper["parameters"] < mlp["parameters"]
    assert mlp["onnx"]
    lines = [json.loads(line) for line in (tmp_path / "test_evaluations.jsonl").read_text().splitlines()]
    assert [line["accuracy"] for line in lines] == [1 - row["error"] for row in (cnn, mlp, deeper)]
