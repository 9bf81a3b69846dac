"""A Flax module the whole way: trained, converted by jax2onnx in an environment of its own, compared."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import pytest
from helpers.flax_nets import ConvNet, Positional, deep

from mnist_jax.config.networks import MLP, FlaxModel
from mnist_jax.config.training import Config
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import ModelError, RuntimeUnavailableError, SpecError
from mnist_jax.nn.model import init, predict
from mnist_jax.training.loop import fit
from mnist_onnx import Classifier, export_flax

KEY = jax.random.key(0)


def exported(*arguments: Any, **options: Any) -> Any:
    """The export, or a skip that says why; CI has what it needs."""
    import os

    try:
        return export_flax(*arguments, **options)
    except RuntimeUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"jax2onnx: {error}")


@pytest.mark.runtimes
def test_from_fit_to_parity(digits: Dataset, tmp_path: Path) -> None:
    model = FlaxModel(ConvNet())
    result = fit(Config(model, epochs=3), digits.train, digits.validation, key=KEY)
    images = digits.test.images
    out = exported(
        model, result.params, images, module="helpers.flax_nets:ConvNet", classes=list("abcdefghij")
    )
    assert out.parity.passed
    assert (out.parity.n, out.parity.noise) == (297, 1280)
    assert (out.model.ir_version, out.model.opset_import[0].version) == (8, 17)
    (tmp_path / "model.onnx").write_bytes(out.model.SerializeToString())
    classifier = Classifier(tmp_path / "model.onnx", input_range="0..1")
    assert classifier.labels == list("abcdefghij")
    assert np.allclose(classifier.predict(images), predict(model, result.params, images), atol=1e-5)


@pytest.mark.runtimes
def test_a_function_makes_the_module_and_another_module_is_noticed(digits: Dataset) -> None:
    model, images = FlaxModel(deep()), digits.test.images[:20]
    params = init(model, KEY)
    assert exported(model, params, images, module="helpers.flax_nets:deep").parity.passed
    with pytest.raises(ModelError, match="ConvNet cannot be converted by jax2onnx: "):
        exported(model, params, images, module="helpers.flax_nets:nothing")
    spec = FlaxModel(Positional())
    with pytest.raises(ModelError, match=r"Positional cannot be converted .* by keyword only"):
        exported(spec, init(spec, KEY), images, module="helpers.flax_nets:Positional")


def test_without_jax2onnx_here_the_error_says_both_ways(digits: Dataset) -> None:
    if __import__("importlib.util").util.find_spec("jax2onnx"):
        pytest.skip("jax2onnx is installed here")
    model = FlaxModel(ConvNet())
    with pytest.raises(SpecError, match=r"give the module as module='package.module:name', .*pip install"):
        export_flax(model, init(model, KEY), digits.test.images)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("helpers.flax_nets", "module must be package.module:name, importable from here; got 'helpers"),
        ("nowhere.nets:Net", "module must be package.module:name, importable from here"),
        ("__main__:Net", "a notebook's modules belong in a file"),
        ("../evil:Net", "module must be package.module:name"),
        ("", "module must be package.module:name"),
    ],
)
def test_modules_that_cannot_be_found(digits: Dataset, module: str, message: str) -> None:
    model = FlaxModel(ConvNet())
    with pytest.raises(SpecError, match=message):
        export_flax(model, init(model, KEY), digits.test.images, module=module)


def test_other_arguments_are_refused(digits: Dataset) -> None:
    model = FlaxModel(ConvNet())
    params = init(model, KEY)
    with pytest.raises(SpecError, match="export_flax takes a FlaxModel; got MLP; to_onnx exports others"):
        export_flax(MLP((3,)), params, digits.test.images)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="params must be those of ConvNet"):
        export_flax(model, params["params"], digits.test.images)
    with pytest.raises(SpecError, match="classes must be 10 names"):
        export_flax(model, params, digits.test.images, classes=["a"])


def test_labels_of_another_exporters_file_are_checked(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["x"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ],
        "theirs",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 28, 28])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(np.zeros((784, 3), np.float32), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    for labels, expected in (
        ('["a", "b", "c"]', ["a", "b", "c"]),
        ('["a"]', ["0", "1", "2"]),
        ("[" * 100_000, ["0", "1", "2"]),
        ('["\\u001b[31m", "b", "c"]', ["0", "1", "2"]),
    ):
        onnx.helper.set_model_props(model, {"labels": labels})
        (tmp_path / "theirs.onnx").write_bytes(model.SerializeToString())
        assert Classifier(tmp_path / "theirs.onnx", input_range="0..1").labels == expected
