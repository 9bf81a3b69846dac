"""8-bit products are the same on every CPU, by arithmetic and by emulation."""

import json
import os
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers.networks import NETWORKS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

from mnist_jax._utils.param_dicts import unflatten
from mnist_jax.cli import main
from mnist_jax.config.training import Config
from mnist_jax.data.datasets import Dataset
from mnist_jax.runs import directory
from mnist_jax.training.records import FitResult
from mnist_onnx import check_parity, to_onnx
from mnist_onnx.quantize import INT8_MAX, _ranges, _rewritten, _rounding, quantize, to_int8
from mnist_onnx.saturation import MAX_STEP, largest_pair_sum, saturating_weights

INT16 = np.iinfo(np.int16)
QEMU = shutil.which("qemu-x86_64")


def with_full_int8(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """The `int8-static` version of a float32 model, with weights up to 127."""
    roundings = {name: _rounding(*span) for name, span in _ranges(model, images, "0..255").items()}
    return _rewritten(model, "int8-static", roundings, INT8_MAX)


def in_floats(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """The outputs of an `int8-static` file computed in float32, without optimizations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images[:, None]})[0])


def maddubs(activations: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The product `[n, k] x [out, k]` as AVX2's `vpmaddubsw` computes it: in pairs, saturating at 16 bits."""
    products = activations[:, None, :].astype(int) * steps[None].astype(int)
    return products.reshape(*products.shape[:2], -1, 2).sum(-1).clip(INT16.min, INT16.max).sum(-1)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_file_of_ours_can_saturate(name: str, digits: Dataset) -> None:
    """For all activations, and whichever weights are neighbors."""
    rng = np.random.default_rng(0)
    shapes = NETWORKS[name].param_shapes
    params = unflatten({path: rng.normal(0, 0.3, shape).astype(np.float32) for path, shape in shapes.items()})
    model = quantize(to_onnx(NETWORKS[name], params), "int8-static", images=digits.train.images[:20])
    weights = [
        numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8
    ]
    weights = [steps for steps in weights if steps.ndim > 1]  # without zero points
    assert len(weights) == sum(len(shape) > 1 for shape in shapes.values())
    for steps in weights:
        assert np.abs(steps.astype(int)).max() == MAX_STEP  # and they use the whole range
    assert INT16.max >= 2 * 255 * MAX_STEP
    assert saturating_weights(model) == []


@given(arrays.arrays(np.int8, arrays.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6)))
def test_the_largest_sum_of_two_products(steps: np.ndarray) -> None:
    rows = steps.astype(int)
    sums = [
        left * a + right * b
        for row in rows
        for a, b in combinations(row, 2)
        for left in (0, 255)
        for right in (0, 255)
    ]
    assert largest_pair_sum(steps) == max(map(abs, sums))


@given(
    arrays.arrays(np.uint8, (3, 8), elements=st.sampled_from((0, 1, 128, 254, 255))),
    arrays.arrays(np.float32, (4, 8), elements=st.floats(-3, 3, width=32)),
)
def test_seven_bit_weights_do_not_saturate(activations: np.ndarray, kernel: np.ndarray) -> None:
    steps, _ = to_int8(kernel, max_step=MAX_STEP)
    np.testing.assert_array_equal(maddubs(activations, steps), activations.astype(int) @ steps.T.astype(int))


def test_eight_bit_weights_saturate() -> None:
    activations, steps = np.full((1, 2), 255, np.uint8), np.full((1, 2), 127, np.int8)
    assert maddubs(activations, steps) == INT16.max
    assert largest_pair_sum(steps) == 64_770


def test_the_proof_warns_of_a_file_that_depends_on_the_cpu(
    trained: tuple[Config, FitResult], digits: Dataset
) -> None:
    spec, params = trained[0].model, trained[1].params
    images = np.asarray(digits.train.images[:1000])
    model = to_onnx(spec, params)
    wide = with_full_int8(model, images)
    assert saturating_weights(wide) == ["Dense_0.weight", "Dense_1.weight", "Dense_2.weight"]
    warning = check_parity(spec, params, wide, digits.test.images).warning
    assert warning.startswith("outputs depend on the CPU: int8 weights of Dense_0.weight, Dense_1.weight")
    assert check_parity(spec, params, quantize(model, "int8-static", images=images), images).warning == ""
    assert check_parity(spec, params, model, images).warning == ""


def test_verify_warns_too(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(run_dir / directory.MODEL)
    path = tmp_path / "wide.onnx"
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    onnx.save(with_full_int8(model, images), path)
    main(["verify", str(path), "--run", str(run_dir), "--json"])
    printed = capsys.readouterr()
    assert "WARNING: outputs depend on the CPU: int8 weights of Dense_0.weight, Dense_1.weight" in printed.err
    assert json.loads(printed.out)["warning"] in printed.err
    assert main(["verify", str(run_dir)]) == 0
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_processor_without_vnni_gives_the_same_answers(
    trained: tuple[Config, FitResult], digits: Dataset, tmp_path: Path
) -> None:
    """An emulated AMD Zen 3 against float32: the exported file, and for contrast full int8 weights."""
    if QEMU is None:
        assert os.environ.get("CI") != "true", "CI needs qemu-user"
        pytest.skip("an emulated processor: install qemu-user")
    spec, params = trained[0].model, trained[1].params
    images = np.asarray(digits.train.images[:1000])
    model = to_onnx(spec, params)
    np.save(tmp_path / "images.npy", digits.test.images[:, None])
    program = (
        "import sys, numpy as np, onnxruntime as ort\n"
        "session = ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "np.save(sys.argv[2], session.run(None, {'images': np.load('images.npy')})[0])\n"
    )
    error = {}
    for name, file in {
        "ours": quantize(model, "int8-static", images=images),
        "wide": with_full_int8(model, images),
    }.items():
        onnx.save(file, tmp_path / f"{name}.onnx")
        subprocess.run(
            [QEMU, "-cpu", "EPYC-Milan", sys.executable, "-c", program, f"{name}.onnx", f"{name}.npy"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        error[name] = np.abs(np.load(tmp_path / f"{name}.npy") - in_floats(file, digits.test.images)).max()
    assert error["ours"] < 1e-3  # an activation halfway between two steps may be rounded either way
    assert error["wide"] > 0.05
