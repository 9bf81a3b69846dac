"""Smaller files: what they compute is known, what they cost is told."""

import json
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mutants import as_numpy, edit, with_metadata

from mnist_jax import runs
from mnist_jax.cli import main
from mnist_jax.datasets import Dataset
from mnist_jax.errors import InputError, ModelError, SpecError
from mnist_jax.loop import Fit
from mnist_jax.models import init
from mnist_jax.networks import CNN, MLP
from mnist_jax.presets import PRESETS
from mnist_jax.specs import Config
from mnist_onnx import Classifier, parity, save, to_onnx
from mnist_onnx.quantize import PRECISIONS, Precision, cost, quantize, rounded, to_int8
from mnist_onnx.saturation import MAX_STEP
from mnist_onnx.sessions import open_session, run

KEY = jax.random.key(0)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["mlp-50-50-sigmoid", "lenet-5"])
def test_a_smaller_file_is_proven_and_can_fail(name: str, precision: Precision, digits: Dataset) -> None:
    spec, images = PRESETS[name].config.model, np.asarray(digits.test.images)
    params = jax.tree.map(lambda leaf: leaf + 0.02, init(spec, KEY))
    for input_ in ("uint8", "float32"):
        model = to_onnx(spec, params, input=input_)
        smaller = quantize(model, precision, images=digits.train.images[:100])
        onnx.checker.check_model(smaller, full_check=True)
        found = parity(spec, params, smaller, images)
        if precision != "int8-static":  # whose answers are near each other, and may be others, untrained
            assert found.passed, found
            assert found.max_abs_difference < 1e-5
            other = jax.tree.map(lambda leaf: leaf * 1.001, params)
            assert not parity(spec, other, smaller, images).passed


def test_a_trained_network_keeps_its_answers(trained: tuple[Config, Fit], digits: Dataset) -> None:
    spec, params = trained[0].model, trained[1].params
    model = to_onnx(spec, params)
    whole = model.SerializeToString()
    shares = {"float16": 0.51, "int8": 0.30, "int8-static": 0.30}
    for precision in PRECISIONS:
        smaller = quantize(model, precision, images=digits.train.images[:1000])
        paid = cost(whole, smaller.SerializeToString(), digits.test)
        assert parity(spec, params, smaller, digits.test.images).passed
        assert (paid.n, paid.bytes_before) == (297, len(whole))
        assert paid.flips <= 2
        assert abs(paid.accuracy_before - paid.accuracy_after) <= 2 / 297
        assert 0 < paid.max_abs_difference < 0.1
        assert paid.bytes_after < shares[precision] * paid.bytes_before + 2_000
    static = quantize(model, "int8-static", images=digits.train.images[:1000])
    wrong = edit(static, "Dense_2.bias.steps", lambda steps: steps[::-1] * 40)
    assert not parity(spec, params, wrong, digits.test.images).passed


def test_static_files_round_what_they_say_they_round(digits: Dataset) -> None:
    """Against NumPy: pixels to steps, sums of whole numbers, and back."""
    spec = MLP((), ())
    params = as_numpy(jax.tree.map(lambda leaf: leaf + 0.01, init(spec, KEY)))
    model = quantize(to_onnx(spec, params, output="logits"), "int8-static", images=digits.train.images[:50])
    steps, scales = to_int8(params["Dense_0"]["kernel"].T, max_step=MAX_STEP)
    pixels = digits.test.images[:20].reshape(20, 784)  # 0..1 in 255 steps: the pixels themselves
    bias = np.rint(params["Dense_0"]["bias"] / (scales / 255))
    expected = (pixels.astype(np.int64) @ steps.T.astype(np.int64) + bias) * (scales / 255)
    (found,) = run(open_session(model.SerializeToString()), {"images": digits.test.images[:20, None]}, None)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=4, max_side=5),
        elements=st.floats(-3, 3, width=32),
    ),
    st.sampled_from((MAX_STEP, 127)),
)
def test_no_weight_moves_by_more_than_half_a_step(kernel: np.ndarray, max_step: int) -> None:
    steps, scales = to_int8(kernel, max_step=max_step)
    assert steps.dtype == np.int8
    assert np.abs(steps.astype(int)).max() <= max_step
    spread = scales.reshape(-1, *[1] * (kernel.ndim - 1))
    assert (np.abs(steps * spread - kernel) <= 0.5001 * spread + 1e-30).all()


def test_rounding_leaves_biases_alone(digits: Dataset) -> None:
    spec = CNN((3,), dense=(4,))
    params = as_numpy(jax.tree.map(lambda leaf: leaf + np.float32(1 / 3), init(spec, KEY)))
    for precision in ("float16", "int8"):
        found = rounded(spec, params, precision)
        for layer, values in params.items():
            np.testing.assert_array_equal(found[layer]["bias"], values["bias"])
            assert not np.array_equal(found[layer]["kernel"], values["kernel"])
            np.testing.assert_allclose(found[layer]["kernel"], values["kernel"], rtol=0.02, atol=0.02)


def test_what_cannot_be_made_smaller_is_refused(digits: Dataset) -> None:
    spec = MLP((), ())
    params = as_numpy(init(spec, KEY))
    model = to_onnx(spec, params)
    with pytest.raises(SpecError, match="precision must be one of float16, int8, int8-static; got 'int4'"):
        quantize(model, "int4")
    with pytest.raises(InputError, match=r"images must be an array of shape \[batch, 28, 28\]; got NoneType"):
        quantize(model, "int8-static")
    with pytest.raises(ModelError, match="must be a float32 one that to_onnx has built; got another"):
        quantize(quantize(model, "int8"), "float16")
    large = {"Dense_0": {**params["Dense_0"], "kernel": np.full((784, 10), 1e5, np.float32)}}
    with pytest.raises(SpecError, match="weights must be at most 65,504 for float16; got 100000"):
        quantize(to_onnx(spec, large), "float16")


def test_export_tells_what_a_smaller_file_costs(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for precision in PRECISIONS:
        path = tmp_path / f"{precision}.onnx"
        capsys.readouterr()
        assert main(["export", str(run_dir), "--precision", precision, "--out", str(path)]) == 0
        said = capsys.readouterr().out
        for part in (" of 297 other than in float32", "before,", "% of "):
            assert part in said
        assert ("answers like JAX" if precision == "int8-static" else "equals JAX") in said
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
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert (run_dir / runs.MODEL).exists()


def first_only(values: np.ndarray) -> np.ndarray:
    """One, and zeros for all others."""
    found = np.zeros_like(values)
    found.flat[0] = 1
    return found


def test_a_file_does_not_pass_by_saying_that_it_is_static(
    trained: tuple[Config, Fit], digits: Dataset
) -> None:
    spec, params = trained[0].model, trained[1].params
    model = to_onnx(spec, params)
    broken = edit(model, "Dense_2.bias", np.zeros_like)
    assert not parity(spec, params, with_metadata(broken, precision="int8-static"), digits.test.images).passed
    static = quantize(model, "int8-static", images=digits.train.images[:500])
    assert parity(spec, params, static, digits.test.images).passed
    for name in ("Dense_0.weight.steps", "Dense_1.bias.steps", "Dense_2.weight.scales"):
        one_off = edit(static, name, lambda values: values + first_only(values))
        assert not parity(spec, params, one_off, digits.test.images).passed, name


def test_biases_of_dead_units_stay(trained: tuple[Config, Fit], digits: Dataset) -> None:
    spec, params = trained[0].model, as_numpy(trained[1].params)
    params["Dense_2"]["kernel"] = params["Dense_2"]["kernel"].copy()
    params["Dense_2"]["kernel"][:, 3] = 0
    params["Dense_2"]["bias"] = params["Dense_2"]["bias"] + np.float32(5) * np.eye(1, 10, 3)[0]
    params["Dense_2"]["bias"] = params["Dense_2"]["bias"].astype(np.float32)
    model = to_onnx(spec, params)
    static = quantize(model, "int8-static", images=digits.train.images[:500])
    paid = cost(model.SerializeToString(), static.SerializeToString(), digits.test)
    assert paid.max_abs_difference < 0.1
    assert paid.flips <= 10  # of close calls; without the bias, or with one clipped, nearly all


def test_static_files_are_calibrated_on_pixels(digits: Dataset) -> None:
    model = to_onnx(MLP((), ()), init(MLP((), ()), KEY), input="float32")
    for images in (digits.train.images[:0], np.float32(digits.train.images[:5] / 255)):
        with pytest.raises(InputError, match="images must be uint8, at least one; got"):
            quantize(model, "int8-static", images=images)
    with pytest.raises(ModelError, match="must be one that to_onnx has built; got bytes"):
        quantize(b"model", "int8")


def test_a_rounded_file_does_not_come_back(tmp_path: Path) -> None:
    from mnist_onnx import load

    spec = MLP((), ())
    for precision in ("float16", "int8"):
        save(quantize(to_onnx(spec, init(spec, KEY)), precision), tmp_path / "model.onnx")
        with pytest.raises(ModelError, match=f"must hold float32 weights; got {precision}, of"):
            load(tmp_path / "model.onnx")
