"""Files of other exporters: they run only with an input range."""

from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.onnx_files import as_numpy, edit
from onnx import TensorProto, helper, numpy_helper

from mnist_jax.cli import main
from mnist_jax.config.networks import MLP
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import InputError, ModelError
from mnist_jax.nn.model import init, predict
from mnist_onnx import Classifier, save, to_onnx
from mnist_onnx.external import parse_range

KEY = jax.random.key(0)
SPEC = MLP((), ())


def foreign(
    folder: Path, shape: list[int | str], dtype: int = TensorProto.FLOAT, *, mean: float = 0, std: float = 1,
    last: str = "", outputs: int = 10,
) -> Path:  # fmt: skip
    """A linear classifier of another exporter, which expects normalized pixels."""
    params = as_numpy(init(SPEC, KEY))["Dense_0"]
    kernel = params["kernel"] * np.float32(std)
    bias = params["bias"] + np.float32(mean) * params["kernel"].sum(axis=0)
    nodes = [helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT)]
    nodes.append(helper.make_node("Reshape", ["float", "flat"], ["rows"]))
    nodes.append(helper.make_node("Gemm", ["rows", "w", "b"], ["scores"]))
    if last:
        nodes.append(helper.make_node(last, ["scores"], ["chances"]))
        nodes.append(helper.make_node("Identity", ["chances"], ["answer"]))
    name = "answer" if last else "scores"
    tensors = {"flat": np.array([-1, 784]), "w": kernel[:, :outputs], "b": bias[:outputs]}
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("pixels", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [*shape[:1], outputs])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    path = folder / "theirs.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("last", ["", "Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    "shape", [[1, 1, 28, 28], ["n", 1, 28, 28], ["n", 28, 28, 1], ["n", 28, 28], [1, 784], ["n", 784]]
)
def test_predictions_with_an_input_range(
    tmp_path: Path, digits: Dataset, shape: list[int | str], last: str
) -> None:
    expected = predict(SPEC, init(SPEC, KEY), digits.test.images[:7])
    path = foreign(tmp_path, shape, last=last)
    classifier = Classifier(path, input_range="0..1")
    np.testing.assert_allclose(classifier.predict(digits.test.images[:7]), expected, atol=1e-5)
    fractions = (digits.test.images[:7] / 255).astype(np.float32)
    np.testing.assert_allclose(classifier.predict(fractions), expected, atol=1e-5)
    assert classifier.predict(digits.test.images[:0]).shape == (0, 10)
    assert classifier.labels == list("0123456789")
    path = foreign(tmp_path, shape, last=last, mean=0.1307, std=0.3081)
    normalized = Classifier(path, input_range=f"{-0.1307 / 0.3081}..{(1 - 0.1307) / 0.3081}")
    np.testing.assert_allclose(normalized.predict(digits.test.images[:7]), expected, atol=1e-5)


def test_without_a_range_it_is_refused_and_ours_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign(tmp_path, ["n", 1, 28, 28])
    with pytest.raises(
        ModelError, match=r"must be a file written by mnist-jax; .*; for a file from elsewhere, give"
    ):
        Classifier(path)
    picture = tmp_path / "seven.png"
    from PIL import Image

    canvas = np.zeros((60, 60), np.uint8)
    canvas[10:50, 25:32] = 255
    Image.fromarray(canvas).save(picture)
    assert main(["predict", str(path), str(picture)]) == 2
    assert "give its input range" in capsys.readouterr().err
    assert main(["predict", str(path), str(picture), "--input-range", "0..1"]) == 0
    assert "seven.png: " in capsys.readouterr().out
    assert main(["predict", str(path), str(picture), "--input-range", "0-1"]) == 2
    assert "an input range must be like 0..1" in capsys.readouterr().err
    ours = tmp_path / "ours.onnx"
    save(to_onnx(SPEC, init(SPEC, KEY)), ours)
    with pytest.raises(ModelError, match=r"since it has one, 0\.\.255; got 0\.\.1; leave it out"):
        Classifier(ours, input_range="0..1")


def test_sigmoids_are_not_normalized(tmp_path: Path, digits: Dataset) -> None:
    spec = MLP((), (), "sigmoid")
    expected = predict(spec, init(spec, KEY), digits.test.images)
    classifier = Classifier(foreign(tmp_path, ["n", 784], last="Sigmoid"), input_range="0..1")
    batch = classifier.predict(digits.test.images)
    np.testing.assert_allclose(batch, expected, atol=1e-5)
    for index in range(5):
        single = classifier.predict(digits.test.images[index : index + 1])
        np.testing.assert_allclose(single[0], batch[index], atol=1e-6)


def test_outputs_must_be_finite(tmp_path: Path, digits: Dataset) -> None:
    path = foreign(tmp_path, ["n", 784], mean=np.nan)
    with pytest.raises(ModelError, match="must output finite numbers; got NaN or infinite"):
        Classifier(path, input_range="0..1").predict(digits.test.images[:2])
    params = as_numpy(init(SPEC, KEY))
    model = edit(to_onnx(SPEC, params), "Dense_0.bias", lambda bias: bias * np.float32(np.nan))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="must output finite numbers; got NaN or infinite"):
        Classifier(path).predict(digits.test.images[:2])


def test_files_with_other_inputs_or_outputs_are_rejected(tmp_path: Path, digits: Dataset) -> None:
    for shape, dtype, message in (
        ([5, 1, 28, 28], TensorProto.FLOAT, "must take .batch, 1, 28, 28., "),
        (["n", 7, 112], TensorProto.FLOAT, "must take .batch, 1, 28, 28., "),
        (["n", 1, "h", "w"], TensorProto.FLOAT, "must take .batch, 1, 28, 28., "),
        (["n", 784], TensorProto.INT64, "must take one array of float or uint8 pixels"),
        (["n", 784], TensorProto.UINT8, "takes uint8, whose range must be 0..255 or 255..0; got 0..1"),
    ):
        with pytest.raises(ModelError, match=message):
            Classifier(foreign(tmp_path, shape, dtype), input_range="0..1")
    with pytest.raises(ModelError, match="must output 2 to 1,000 classes; got 1"):
        Classifier(foreign(tmp_path, ["n", 784], outputs=1), input_range="0..1")
    nine = Classifier(foreign(tmp_path, ["n", 784], outputs=9), input_range="0..1")
    assert nine.predict(digits.test.images[:2]).shape == (2, 9)
    assert nine.labels == list("012345678")


@pytest.mark.parametrize(
    "text", ["", "0", "0..", "..1", "a..b", "nan..1", "0..inf", "1..1", "1e39..0", "0-1", None, 3]
)
def test_a_range_is_two_numbers(text: str) -> None:
    with pytest.raises(InputError, match=r"an input range must be like 0\.\.1"):
        parse_range(text)


def test_ranges() -> None:
    assert parse_range("0..1") == (0, 1)
    assert parse_range("-0.42..2.8e0") == (-0.42, 2.8)
    assert parse_range("255..0") == (255, 0)
