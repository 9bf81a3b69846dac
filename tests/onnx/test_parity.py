"""The parity checks: correct files pass, mutants fail."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from helpers.onnx_files import as_numpy, edit, with_metadata, without_weights_of_black_pixels

from mnist_jax.config.networks import CNN, MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import InputError, ModelError
from mnist_jax.nn.model import apply, init, predict
from mnist_jax.training.loop import fit
from mnist_jax.training.records import FitResult
from mnist_onnx import Classifier, check_function_parity, check_parity, to_onnx
from mnist_onnx.parity_cases import SAMPLE_SIZE, ParityCase

KEY = jax.random.key(0)


def test_the_proof_fails_each_mutant(trained: tuple[Config, FitResult], digits: Dataset) -> None:
    spec, params = trained[0].model, trained[1].state.params
    images = np.asarray(digits.test.images)
    model = to_onnx(spec, params)
    assert check_parity(spec, params, model, images).passed
    mutants = {
        "output bias dropped": edit(model, "Dense_2.bias", np.zeros_like),
        "1/256 for 1/255": edit(model, "scale", lambda _: np.float32(1 / 256)),
        "weights of black pixels zeroed": edit(
            model, "Dense_0.weight", without_weights_of_black_pixels(images)
        ),
        "a kernel transposed": edit(model, "Dense_1.weight", np.transpose),  # 50x50, so the graph stays valid
        "logits 5 % too large": edit(
            edit(model, "Dense_2.weight", lambda w: w * np.float32(1.05)),
            "Dense_2.bias",
            lambda b: b * np.float32(1.05),
        ),
        "the largest weight 1 % off": edit(
            model, "Dense_2.weight", lambda w: np.where(abs(w) == abs(w).max(), w * 1.01, w)
        ),
        "not a number": edit(model, "Dense_0.bias", lambda b: b * np.float32(np.nan)),
        "another network": to_onnx(spec, init(spec, jax.random.key(9))),
    }
    for name, mutant in mutants.items():
        result = check_parity(spec, params, mutant, images)
        assert not result.passed, (name, result)


@pytest.mark.slow
def test_the_proof_fails_each_mutant_of_a_convolutional_network(digits: Dataset) -> None:
    spec, images = CNN((4, 4), 3, "average", (16,), ("same", "valid")), np.asarray(digits.test.images)
    params = fit(Config(spec, epochs=2), digits.train, key=KEY).params
    model = to_onnx(spec, params)
    assert check_parity(spec, params, model, images).passed

    def rows_in_the_order_of_jax(weight: np.ndarray) -> np.ndarray:
        return weight.reshape(16, 4, 6, 6).transpose(0, 2, 3, 1).reshape(16, -1)

    mutants = {
        "a kernel flipped": edit(model, "Conv_1.weight", lambda w: w[..., ::-1, ::-1]),
        "height and width exchanged": edit(model, "Conv_0.weight", lambda w: w.transpose(0, 1, 3, 2)),
        "channels in and out exchanged": edit(model, "Conv_1.weight", lambda w: w.transpose(1, 0, 2, 3)),
        "rows in another order": edit(model, "Dense_0.weight", rows_in_the_order_of_jax),
        "a bias dropped": edit(model, "Conv_0.bias", np.zeros_like),
        "the other pooling": to_onnx(replace(spec, pool="max"), params),
    }
    for name, mutant in mutants.items():
        result = check_parity(spec, params, mutant, images)
        assert not result.passed, (name, result)
    corner = edit(model, "Conv_0.weight", lambda w: np.where(np.indices(w.shape).sum(0) == 0, 0, w))
    assert not check_parity(spec, params, corner, images).passed


@pytest.mark.slow
def test_cancellation_of_large_terms_in_float32_is_tolerated(digits: Dataset) -> None:
    """After training at far too high a learning rate, logits are small differences of large terms."""
    config = Config(MLP((128, 64), ("relu", "relu")), epochs=1)
    params = fit(config, digits.train, key=KEY, hyperparams=HyperParams(learning_rate=100.0)).params
    model = to_onnx(config.model, params)
    images = np.asarray(digits.test.images)
    assert check_parity(config.model, params, model, images).passed
    for name, change in (
        ("Dense_2.weight", lambda weight: weight * np.float32(1.001)),
        ("Dense_0.weight", without_weights_of_black_pixels(images)),
    ):
        assert not check_parity(config.model, params, edit(model, name, change), images).passed, name


def test_saturated_probabilities_do_not_hide_wrong_logits(digits: Dataset) -> None:
    """All sigmoids are 1 within 1e-13, so only the logits differ."""
    spec = MLP((), (), "sigmoid")
    params = as_numpy(init(spec, KEY))
    params["Dense_0"]["bias"] = np.full(10, 60, np.float32)
    model = to_onnx(spec, params)
    mutant = edit(model, "Dense_0.bias", lambda bias: bias * np.float32(1.05))
    assert check_parity(spec, params, model, digits.test.images).passed
    result = check_parity(spec, params, mutant, digits.test.images)
    assert result.max_abs_difference < 1e-10
    assert not result.passed


def test_the_proof_covers_weights_that_neither_images_nor_noise_use(digits: Dataset) -> None:
    """From pixels that are black in all images to units that are off on noise: noisy images use both."""
    spec, images = MLP((100,), ("relu",)), np.asarray(digits.test.images)
    params = as_numpy(init(spec, KEY))

    def before_relu(images: np.ndarray) -> np.ndarray:
        layer = params["Dense_0"]
        return np.asarray(images.reshape(-1, 784) / 255 @ layer["kernel"] + layer["bias"])

    noise = np.random.default_rng(0).integers(0, 256, (256, 28, 28), np.uint8)
    units = (before_relu(noise) <= 0).all(axis=0) & (before_relu(images) > 0).any(axis=0)
    black = ~images.any(axis=0).reshape(-1)
    assert units.any()
    assert black.any()
    model = to_onnx(spec, params)
    for value in (0, -100):
        mutant = edit(
            model,
            "Dense_0.weight",
            lambda w, value=value: np.where(units[:, None] & black, np.float32(value), w),
        )
        assert not check_parity(spec, params, mutant, images).passed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", "{{"),
        ("labels", "7"),
        ("labels", "null"),
        ("labels", '["0"]'),
        ("labels", "[" * 5000),
        ("format", "99"),
        ("output", "classes"),
        ("network_output", "argmax"),
        ("input_range", "0..1"),
        ("input_range", "any"),
    ],
)
def test_invalid_metadata_is_rejected(tmp_path: Path, digits: Dataset, key: str, value: str) -> None:
    spec = MLP((), ())
    params = init(spec, KEY)
    mutant = with_metadata(to_onnx(spec, params), **{key: value})
    path = tmp_path / "model.onnx"
    path.write_bytes(mutant.SerializeToString())
    with pytest.raises(ModelError, match=f"{key} in its metadata must be|must take"):
        Classifier(path)
    with pytest.raises(ModelError):
        check_parity(spec, params, mutant, digits.test.images)


def test_graphs_of_other_origin_are_rejected(tmp_path: Path, digits: Dataset) -> None:
    spec = MLP((), ())
    params = init(spec, KEY)
    good = to_onnx(spec, params)

    def changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
        mutant = onnx.ModelProto()
        mutant.CopyFrom(good)
        change(mutant)
        return mutant

    def rename_input(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = model.graph.node[0].input[0] = "pictures"

    def fix_batch(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3

    def add_output(model: onnx.ModelProto) -> None:
        model.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))

    path = tmp_path / "model.onnx"
    for mutant, message in (
        (changed(rename_input), "must take"),
        (changed(add_output), "output one value"),
        (changed(fix_batch), "cannot be run on 2 images"),
        (
            edit(edit(good, "Dense_0.weight", lambda w: w[:5]), "Dense_0.bias", lambda b: b[:5]),
            "ONNX file|output",
        ),
    ):
        path.write_bytes(mutant.SerializeToString())
        with pytest.raises(ModelError, match=message):
            Classifier(path).predict(np.zeros((2, 28, 28), np.uint8))
        with pytest.raises(ModelError):
            check_parity(spec, params, mutant, digits.test.images)
    with pytest.raises(ModelError, match="must be of a softmax network; got sigmoid"):
        check_parity(spec, params, with_metadata(good, network_output="sigmoid"), digits.test.images)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_any_jax_function_can_be_compared_with_a_file(digits: Dataset) -> None:
    spec = MLP((20,), ("tanh",), "sigmoid")
    params = init(spec, KEY)
    images = np.asarray(digits.test.images)
    for input_ in ("uint8", "float32"):
        for output, function in (("logits", apply), ("probabilities", predict)):
            model = to_onnx(spec, params, input=input_, output=output)

            def in_jax(images: jax.Array, function: Callable[..., jax.Array] = function) -> jax.Array:
                return function(spec, params, images[:, 0])

            result = check_function_parity(in_jax, model, images)
            assert result.passed, result
            assert (result.n, result.noise, result.disagreements) == (297, 1280, 0)
            assert not check_function_parity(
                lambda images, in_jax=in_jax: in_jax(images) * 1.001, model, images
            ).passed
    for wrong in (lambda images: images[:, 0, 0, :1], lambda images: 3.0, 5):
        with pytest.raises(InputError, match=r"must return float32|takes a function"):
            check_function_parity(wrong, model, images)
    with pytest.raises(ModelError, match="must take one array, uint8 or float32, and output one"):
        check_function_parity(in_jax, with_two_outputs(model), images)


@pytest.mark.parametrize("wrong_size", [1, 7, 0])
def test_a_file_that_is_wrong_for_one_batch_size_fails(digits: Dataset, wrong_size: int) -> None:
    spec = MLP((5,), ("relu",))
    params = init(spec, KEY)
    model = to_onnx(spec, params, output="logits")
    tensors = {"axis": np.int64(0), "size": np.int64(wrong_size), "error": np.float32(0.1)}
    for name, value in tensors.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    for operation, inputs, output, attributes in (
        ("Shape", ["images"], "shape", {}),
        ("Gather", ["shape", "axis"], "batch", {}),
        ("Equal", ["batch", "size"], "equal", {}),
        ("Cast", ["equal"], "is_wrong", {"to": onnx.TensorProto.FLOAT}),
        ("Mul", ["is_wrong", "error"], "added", {}),
        ("Add", ["logits", "added"], "outputs", {}),
    ):
        model.graph.node.append(onnx.helper.make_node(operation, inputs, [output], **attributes))
    model.graph.output[0].name = "outputs"
    result = check_function_parity(
        lambda images: apply(spec, params, images[:, 0]), model, np.asarray(digits.test.images)
    )
    assert result.passed == (wrong_size == 0)


def test_the_sample_for_small_batches_holds_every_kind_of_input_and_exceeds_the_slack() -> None:
    inputs = np.zeros((11_280, 1, 28, 28), np.uint8)
    case = ParityCase(inputs, inputs, inputs, inputs, inputs, 10_000)
    sample = case.sample()
    assert len(sample) == SAMPLE_SIZE
    assert ((sample < 10_000).sum() > 100) & (sample >= 10_256).any()
    assert ((sample >= 10_000) & (sample < 10_256)).any()
    assert (case._replace(slack=100).sample() < 10_000).sum() > 200
    assert len(case._replace(pixels=inputs[:50]).sample()) == 50


def with_two_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    mutant = onnx.ModelProto()
    mutant.CopyFrom(model)
    mutant.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    return mutant
