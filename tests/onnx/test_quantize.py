"""Quantized files: they compute what they should, and their cost is reported."""

import json
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from helpers.onnx_files import as_numpy, edit, with_metadata
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mnist_jax.cli import main
from mnist_jax.config.networks import CNN, MLP
from mnist_jax.config.presets import PRESETS
from mnist_jax.config.training import Config
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import InputError, ModelError, SpecError
from mnist_jax.nn.model import init
from mnist_jax.runs import directory
from mnist_jax.training.records import FitResult
from mnist_onnx import Classifier, check_parity, save, to_onnx
from mnist_onnx.quantize import PRECISIONS, Precision, cost, quantize, rounded, to_int8
from mnist_onnx.saturation import MAX_STEP
from mnist_onnx.session import open_session, run

KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["mlp-50-50-sigmoid", "lenet-5"])
def test_a_smaller_file_is_proven_and_can_fail(name: str, precision: Precision, digits: Dataset) -> None:
    spec, images = PRESETS[name].config.model, np.asarray(digits.test.images)
    params = jax.tree.map(lambda leaf: leaf + 0.02, init(spec, KEY))
    for input_ in ("uint8", "float32"):
        model = to_onnx(spec, params, input=input_)
        smaller = quantize(model, precision, images=digits.train.images[:100])
        onnx.checker.check_model(smaller, full_check=True)
        result = check_parity(spec, params, smaller, images)
        if precision != "int8-static":  # predictions of an untrained network are near ties and may flip
            assert result.passed, result
            assert result.max_abs_difference < 1e-5
            other = jax.tree.map(lambda leaf: leaf * 1.001, params)
            assert not check_parity(spec, other, smaller, images).passed


def test_a_trained_network_keeps_its_predictions(trained: tuple[Config, FitResult], digits: Dataset) -> None:
    spec, params = trained[0].model, trained[1].params
    model = to_onnx(spec, params)
    whole = model.SerializeToString()
    shares = {"float16": 0.51, "int8": 0.30, "int8-static": 0.30}
    for precision in PRECISIONS:
        smaller = quantize(model, precision, images=digits.train.images[:1000])
        measured = cost(whole, smaller.SerializeToString(), digits.test)
        assert check_parity(spec, params, smaller, digits.test.images).passed
        assert (measured.n, measured.bytes_before) == (297, len(whole))
        assert measured.flips <= 2
        assert abs(measured.accuracy_before - measured.accuracy_after) <= 2 / 297
        assert 0 < measured.max_abs_difference < 0.1
        assert measured.bytes_after < shares[precision] * measured.bytes_before + 2_000
    static = quantize(model, "int8-static", images=digits.train.images[:1000])
    wrong = edit(static, "Dense_2.bias.steps", lambda steps: steps[::-1] * 40)
    assert not check_parity(spec, params, wrong, digits.test.images).passed


def test_static_files_compute_in_integers(digits: Dataset) -> None:
    """Against NumPy: quantize pixels, sum integer products, dequantize."""
    spec = MLP((), ())
    params = as_numpy(jax.tree.map(lambda leaf: leaf + 0.01, init(spec, KEY)))
    model = quantize(to_onnx(spec, params, output="logits"), "int8-static", images=digits.train.images[:50])
    steps, scales = to_int8(params["Dense_0"]["kernel"].T, max_step=MAX_STEP)
    pixels = digits.test.images[:20].reshape(20, 784)  # with scale 1 / 255, the steps are the pixels
    bias = np.rint(params["Dense_0"]["bias"] / (scales / 255))
    expected = (pixels.astype(np.int64) @ steps.T.astype(np.int64) + bias) * (scales / 255)
    (outputs,) = run(open_session(model.SerializeToString()), {"images": digits.test.images[:20, None]}, None)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=4, max_side=5),
        elements=st.floats(-3, 3, width=32),
    ),
    st.sampled_from((MAX_STEP, 127)),
)
def test_no_weight_changes_by_more_than_half_a_step(kernel: np.ndarray, max_step: int) -> None:
    steps, scales = to_int8(kernel, max_step=max_step)
    assert steps.dtype == np.int8
    assert np.abs(steps.astype(int)).max() <= max_step
    spread = scales.reshape(-1, *[1] * (kernel.ndim - 1))
    assert (np.abs(steps * spread - kernel) <= 0.5001 * spread + 1e-30).all()


@pytest.mark.slow
def test_biases_are_not_rounded(digits: Dataset) -> None:
    spec = CNN((3,), dense_sizes=(4,))
    params = as_numpy(jax.tree.map(lambda leaf: leaf + np.float32(1 / 3), init(spec, KEY)))
    for precision in ("float16", "int8"):
        result = rounded(spec, params, precision)
        for layer, values in params.items():
            np.testing.assert_array_equal(result[layer]["bias"], values["bias"])
            assert not np.array_equal(result[layer]["kernel"], values["kernel"])
            np.testing.assert_allclose(result[layer]["kernel"], values["kernel"], rtol=0.02, atol=0.02)


def test_invalid_arguments_are_rejected(digits: Dataset) -> None:
    spec = MLP((), ())
    params = as_numpy(init(spec, KEY))
    model = to_onnx(spec, params)
    with pytest.raises(SpecError, match="precision must be one of float16, int8, int8-static; got 'int4'"):
        quantize(model, "int4")
    with pytest.raises(InputError, match=r"images must be an array of shape \[batch, 28, 28\]; got NoneType"):
        quantize(model, "int8-static")
    with pytest.raises(ModelError, match="must be a float32 one that to_onnx built; got another"):
        quantize(quantize(model, "int8"), "float16")
    large = {"Dense_0": {**params["Dense_0"], "kernel": np.full((784, 10), 1e5, np.float32)}}
    with pytest.raises(SpecError, match="weights must be at most 65,504 for float16; got 100000"):
        quantize(to_onnx(spec, large), "float16")


def test_export_reports_the_cost_of_a_smaller_file(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for precision in PRECISIONS:
        path = tmp_path / f"{precision}.onnx"
        capsys.readouterr()
        assert main(["export", str(run_dir), "--precision", precision, "--out", str(path)]) == 0
        stdout = capsys.readouterr().out
        for part in (" of 297 differ", "before,", "% of "):
            assert part in stdout
        assert ("agrees with JAX" if precision == "int8-static" else "equals JAX") in stdout
        assert json.loads(path.with_suffix(".json").read_text())["precision"] == precision
        assert main(["verify", str(path), "--run", str(run_dir)]) == 0
        assert Classifier(path).predict(np.zeros((3, 28, 28), np.uint8)).shape == (3, 10)
    assert main(["export", str(run_dir), "--precision", "int2", "--out", str(tmp_path / "x.onnx")]) == 2
    assert (
        "precision must be one of float32, float16, int8, int8-static; got 'int2'" in capsys.readouterr().err
    )


def test_a_smaller_file_that_fails_is_not_written(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(model: onnx.ModelProto, precision: Precision, *, images: object) -> onnx.ModelProto:
        return edit(quantize(model, precision, images=images), "Dense_1.bias", lambda bias: bias + 3)

    monkeypatch.setattr("mnist_onnx.quantize.quantize", wrong)
    path = tmp_path / "model.onnx"
    assert main(["export", str(run_dir), "--precision", "int8", "--out", str(path)]) == 1
    assert "it did not, and was not written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert (run_dir / directory.MODEL).exists()


def first_only(values: np.ndarray) -> np.ndarray:
    """One at the first element, zeros elsewhere."""
    result = np.zeros_like(values)
    result.flat[0] = 1
    return result


def test_metadata_alone_do_not_make_a_file_static(trained: tuple[Config, FitResult], digits: Dataset) -> None:
    spec, params = trained[0].model, trained[1].params
    model = to_onnx(spec, params)
    broken = edit(model, "Dense_2.bias", np.zeros_like)
    assert not check_parity(
        spec, params, with_metadata(broken, precision="int8-static"), digits.test.images
    ).passed
    static = quantize(model, "int8-static", images=digits.train.images[:500])
    assert check_parity(spec, params, static, digits.test.images).passed
    for name in ("Dense_0.weight.steps", "Dense_1.bias.steps", "Dense_2.weight.scales"):
        one_off = edit(static, name, lambda values: values + first_only(values))
        assert not check_parity(spec, params, one_off, digits.test.images).passed, name


def test_biases_of_dead_units_are_kept(trained: tuple[Config, FitResult], digits: Dataset) -> None:
    spec, params = trained[0].model, as_numpy(trained[1].params)
    params["Dense_2"]["kernel"] = params["Dense_2"]["kernel"].copy()
    params["Dense_2"]["kernel"][:, 3] = 0
    params["Dense_2"]["bias"] = params["Dense_2"]["bias"] + np.float32(5) * np.eye(1, 10, 3)[0]
    params["Dense_2"]["bias"] = params["Dense_2"]["bias"].astype(np.float32)
    model = to_onnx(spec, params)
    static = quantize(model, "int8-static", images=digits.train.images[:500])
    measured = cost(model.SerializeToString(), static.SerializeToString(), digits.test)
    assert measured.max_abs_difference < 0.1
    assert measured.flips <= 10  # near ties; without the bias, or with a clipped one, nearly all


def test_static_files_are_calibrated_on_pixels(digits: Dataset) -> None:
    model = to_onnx(MLP((), ()), init(MLP((), ()), KEY), input="float32")
    for images in (digits.train.images[:0], np.float32(digits.train.images[:5] / 255)):
        with pytest.raises(InputError, match="images must be uint8, at least one; got"):
            quantize(model, "int8-static", images=images)
    with pytest.raises(ModelError, match="must be one that to_onnx built; got bytes"):
        quantize(b"model", "int8")


def test_a_rounded_file_cannot_be_loaded(tmp_path: Path) -> None:
    from mnist_onnx import load

    spec = MLP((), ())
    for precision in ("float16", "int8"):
        save(quantize(to_onnx(spec, init(spec, KEY)), precision), tmp_path / "model.onnx")
        with pytest.raises(ModelError, match=f"must hold float32 weights; got {precision}, which"):
            load(tmp_path / "model.onnx")
