"""The exporter `to_onnx` and the `Classifier`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers.networks import LARGE_AT_NIGHT, NETWORKS
from helpers.onnx_files import as_numpy
from onnx.reference import ReferenceEvaluator

import mnist_onnx
from mnist_jax._utils import param_dicts
from mnist_jax.config.networks import CNN, MLP, Activation, Spec
from mnist_jax.config.presets import PRESETS
from mnist_jax.config.serialization import network_from_json
from mnist_jax.config.training import Config
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import InputError, ModelError, RuntimeUnavailableError, SpecError
from mnist_jax.nn.model import apply, init, predict
from mnist_jax.training.records import FitResult
from mnist_onnx import Classifier, check_parity, save, to_onnx
from mnist_onnx.io import describe
from mnist_onnx.quantize import PRECISIONS, quantize
from mnist_onnx.session import run as session_run
from mnist_onnx.webapp_files import with_hidden

KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_AT_NIGHT)
def test_the_file_of_every_preset_equals_jax(name: str, digits: Dataset) -> None:
    spec = NETWORKS[name]
    params = jax.tree.map(lambda leaf: leaf * 2 + 0.05, init(spec, KEY))
    for input_ in ("uint8", "float32"):
        for output in ("probabilities", "logits"):
            model = to_onnx(spec, params, input=input_, output=output)
            onnx.checker.check_model(model, full_check=True)
            result = check_parity(spec, params, model, digits.test.images)
            assert result.passed, result
            assert (result.n, result.noise, result.disagreements) == (297, 1280, 0)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation_is_exported_exactly(activation: Activation, digits: Dataset) -> None:
    dense = MLP((40, 30), activation, "softmax" if activation < "m" else "sigmoid")
    for spec in (dense, CNN((3,), 5, "average", (7,), activation=activation)):
        params = jax.tree.map(lambda leaf: leaf * 3 + 0.1, init(spec, KEY))
        model = to_onnx(spec, params)
        assert check_parity(spec, params, model, digits.test.images).passed


def test_a_linear_classifier_has_no_hidden_layer(digits: Dataset) -> None:
    spec = MLP((), ())
    params = init(spec, KEY)
    model = to_onnx(spec, params)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Mul", "Flatten", "Gemm", "Softmax"]
    assert check_parity(spec, params, model, digits.test.images).passed


@pytest.mark.slow
def test_a_convolutional_graph_has_standard_operations(digits: Dataset) -> None:
    spec = CNN((3, 4), 4, "max", (5,), ("same", "valid"), "gelu", "sigmoid")
    params = jax.tree.map(lambda leaf: leaf * 2 + 0.05, init(spec, KEY))
    model = to_onnx(replace(spec, activation="tanh"), params)
    operators = [node.op_type for node in model.graph.node]
    assert operators[:2] == ["Cast", "Mul"]
    assert operators[2:-1] == [*["Conv", "Tanh", "MaxPool"] * 2, "Flatten", "Gemm", "Tanh", "Gemm"]
    attributes = {node.name: {a.name: list(a.ints) for a in node.attribute} for node in model.graph.node}
    assert attributes["Conv_0.out"] == {"kernel_shape": [4, 4], "pads": [1, 1, 2, 2]}
    assert attributes["Conv_1.out"] == {"kernel_shape": [4, 4], "pads": [0, 0, 0, 0]}
    assert check_parity(spec, params, to_onnx(spec, params), digits.test.images).passed
    evaluator = ReferenceEvaluator(to_onnx(spec, params))
    (outputs,) = evaluator.run(None, {"images": np.asarray(digits.test.images[:5, None])})
    np.testing.assert_allclose(outputs, predict(spec, params, digits.test.images[:5]), atol=1e-6)


def test_the_graph_has_no_superfluous_nodes() -> None:
    spec = PRESETS["mlp-100"].config.model
    model = to_onnx(spec, init(spec, KEY), input="float32", output="logits")
    assert [node.op_type for node in model.graph.node] == ["Flatten", "Gemm", "Relu", "Gemm"]
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert len(model.SerializeToString()) < 4 * spec.num_params + 2_500


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        MLP((), ()),
        MLP((5, 4), ("gelu", "sigmoid"), "sigmoid"),
        CNN((3, 5), 4, "max", (7, 6), ("same", "valid"), "gelu"),
        NETWORKS["ensemble"],
    ],
)
def test_value_info_equals_the_shapes_that_onnx_infers(spec: Spec, digits: Dataset) -> None:
    params = init(spec, KEY)
    for input_ in ("uint8", "float32"):
        for output in ("probabilities", "logits"):
            whole = to_onnx(spec, params, input=input_, output=output)
            smaller = [quantize(whole, name, images=digits.train.images[:5]) for name in PRECISIONS]
            for model in (whole, *smaller, with_hidden(whole)):
                onnx.checker.check_model(model, full_check=True)
                bare = onnx.ModelProto()
                bare.CopyFrom(model)
                del bare.graph.value_info[:]
                inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True, check_type=True)
                infos = {value.name: value for value in model.graph.value_info}
                assert infos == {value.name: value for value in inferred.graph.value_info}
                values = [*infos, *(value.name for value in model.graph.output)]
                assert sorted(values) == sorted(name for node in model.graph.node for name in node.output)
                assert all(value.type.tensor_type.HasField("shape") for value in model.graph.output)


def test_the_same_parameters_give_the_same_bytes(tmp_path: Path) -> None:
    spec = PRESETS["mlp-100"].config.model
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(to_onnx(spec, init(spec, KEY), metadata={"z": "1", "a": "2"}), tmp_path / name / "model.onnx")
    for name in ("model.onnx", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("text", ["about 0.98", "NaN", "1e999", "[" * 100_000, ""])
def test_an_accuracy_that_is_not_a_number_stays_a_string(text: str) -> None:
    spec = MLP((), ())
    model = to_onnx(spec, init(spec, KEY), metadata={"test_accuracy": text, "note": "1"})
    card = describe(model, "model.onnx", b"")
    assert (card["test_accuracy"], card["note"]) == (text, "1")
    json.dumps(card, allow_nan=False)


@pytest.mark.parametrize("spec", [PRESETS["mlp-100-sigmoid"].config.model, CNN((3,), output="sigmoid")])
def test_the_file_and_its_card_describe_the_network(tmp_path: Path, spec: Spec) -> None:
    params = init(spec, KEY)
    path = tmp_path / "digits.onnx"
    save(to_onnx(spec, params, classes=list("abcdefghij"), metadata={"test_accuracy": "0.98"}), path)
    card = json.loads((tmp_path / "digits.json").read_text())
    classifier = Classifier(path)
    assert classifier.labels == card["labels"] == list("abcdefghij")
    assert (classifier.metadata["test_accuracy"], card["test_accuracy"]) == ("0.98", 0.98)
    assert (classifier.metadata["format"], card["format"]) == ("2", 2)
    assert card["network"] == json.loads(classifier.metadata["network"])
    assert network_from_json(card["network"]) == spec
    digest = param_dicts.digest(param_dicts.flatten(as_numpy(params)))
    assert classifier.metadata["parameters_sha256"] == card["parameters_sha256"] == digest
    assert card["inputs"] == [{"name": "images", "dtype": "uint8", "shape": ["batch", 1, 28, 28]}]
    assert card["outputs"] == [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 10]}]
    assert (card["input_range"], card["network_output"], card["bytes"]) == (
        "0..255",
        "sigmoid",
        path.stat().st_size,
    )


def test_the_classifier_runs_on_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = MLP((20,), ("relu",))
    params = init(spec, KEY)
    save(to_onnx(spec, params), tmp_path / "model.onnx")
    sizes = []

    def recorded(session: object, feed: dict[str, np.ndarray], *rest: Any, **named: Any) -> list[np.ndarray]:
        sizes.append(len(feed["images"]))
        return session_run(session, feed, *rest, **named)

    monkeypatch.setattr("mnist_onnx.classifier.CHUNK_SIZE", 4)
    monkeypatch.setattr("mnist_onnx.classifier.run", recorded)
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28), np.uint8)
    for given, options in ((images, {}), (255 - images, {"invert": True})):
        outputs = Classifier(tmp_path / "model.onnx").predict(given, **options)
        np.testing.assert_allclose(outputs, predict(spec, params, images), atol=1e-6)
    assert Classifier(tmp_path / "model.onnx").predict(images[:0]).shape == (0, 10)
    assert sizes == [4, 4, 2, 4, 4, 2, 0]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["probabilities", "logits"])
@pytest.mark.parametrize("name", ["mlp-100", "mlp-100-sigmoid", "lenet-5"])
def test_the_classifier_predicts_as_jax_does(tmp_path: Path, digits: Dataset, name: str, output: str) -> None:
    spec = PRESETS[name].config.model
    params = init(spec, KEY)
    expected = predict(spec, params, digits.test.images)
    for input_ in ("uint8", "float32"):
        path = tmp_path / f"{input_}.onnx"
        save(to_onnx(spec, params, input=input_, output=output), path)
        for count in (1, 7, 297):
            outputs = Classifier(path).predict(digits.test.images[:count])
            assert (outputs.shape, outputs.dtype) == ((count, 10), np.float32)
            np.testing.assert_allclose(outputs, expected[:count], atol=1e-6)
    fractions = (digits.test.images / 255).astype(np.float32)
    np.testing.assert_allclose(Classifier(tmp_path / "float32.onnx").predict(fractions), expected, atol=1e-6)


def test_the_classifier_rejects_invalid_images(tmp_path: Path) -> None:
    spec = MLP((), ())
    path = tmp_path / "model.onnx"
    save(to_onnx(spec, init(spec, KEY)), path)
    classifier = Classifier(path)
    for images, message in (
        (np.zeros((28, 28), np.uint8), "add the batch axis"),
        (np.zeros((1, 28, 28), np.float64), "got float64"),
        (np.full((1, 28, 28), 255, np.float32), "must lie in 0..1; got 255..255"),
        (np.zeros((1, 28, 28), np.float32), "this file takes uint8 images, 0 to 255; got float32"),
        ([[0]], "got list"),
    ):
        with pytest.raises(InputError, match=message):
            classifier.predict(images)


def test_the_classifier_takes_providers_and_session_options(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = PRESETS["mlp-100"].config.model
    path = tmp_path / "model.onnx"
    save(to_onnx(spec, init(spec, KEY)), path)
    expected = Classifier(path).predict(digits.test.images)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    for providers in (["CPUExecutionProvider"], [("CPUExecutionProvider", {})], ("CPUExecutionProvider",)):
        classifier = Classifier(path, providers=providers, session_options=options)
        np.testing.assert_allclose(classifier.predict(digits.test.images), expected, atol=1e-6)
        assert classifier._session.get_session_options().intra_op_num_threads == 1
    assert list(tmp_path.glob("profile*"))
    for providers in ("CPUExecutionProvider", [], None, [3], [("CPUExecutionProvider",)], [("a", "b")]):
        with pytest.raises(ModelError, match="providers must be a list of ONNX Runtime's names, such as"):
            Classifier(path, providers=providers)
    with pytest.raises(ModelError, match="session options must be ONNX Runtime's SessionOptions; got 4"):
        Classifier(path, session_options=4)


def test_a_missing_provider_is_an_error_without_a_fallback_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = MLP((), ())
    path = tmp_path / "model.onnx"
    save(to_onnx(spec, init(spec, KEY)), path)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    requested = ["CPUExecutionProvider", ("CUDAExecutionProvider", {"device_id": 0})]
    with pytest.raises(
        RuntimeUnavailableError,
        match=r"must be among those of .* installed, CPUExecutionProvider; got CUDAExecutionProvider$",
    ):
        Classifier(path, providers=requested)
    started = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    # With a CUDA build on a machine without a GPU, ONNX Runtime only logs an error.
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: started)
    with pytest.raises(
        RuntimeUnavailableError,
        match="must start on this machine; CUDAExecutionProvider did not, CPUExecutionProvider did",
    ):
        Classifier(path, providers=["CUDAExecutionProvider"])


def test_files_of_other_origin_are_rejected(tmp_path: Path, digits: Dataset) -> None:
    spec = MLP((), ())
    params = init(spec, KEY)
    good = to_onnx(spec, params).SerializeToString()
    path = tmp_path / "model.onnx"
    for data in (b"", b"not ONNX", good[: len(good) // 2], good[:-1], b"\x00" * 100):
        path.write_bytes(data)
        with pytest.raises(
            ModelError, match=r"must be an ONNX file; (it is damaged, or|ONNX Runtime refuses)"
        ) as refusal:
            Classifier(path)
        assert "\n" not in str(refusal.value)
        with pytest.raises(ModelError):
            check_parity(spec, params, data, digits.test.images)
    with pytest.raises(ModelError, match="it cannot be read: No such file"):
        Classifier(tmp_path / "nothing.onnx")
    foreign = onnx.load_from_string(good)
    del foreign.metadata_props[:]
    path.write_bytes(foreign.SerializeToString())
    with pytest.raises(
        ModelError, match="its metadata lacks format, input_range, labels, network_output, output"
    ):
        Classifier(path)


def test_wrong_options_are_rejected(tmp_path: Path, digits: Dataset) -> None:
    spec = MLP((), ())
    params = init(spec, KEY)
    for options, message in (
        ({"input": "int8"}, "input must be uint8 or float32; got 'int8'"),
        ({"output": "classes"}, "output must be probabilities or logits; got 'classes'"),
    ):
        with pytest.raises(SpecError, match=message):
            to_onnx(spec, params, **options)
    with pytest.raises(SpecError, match=r"params must be those of 784-5-10 .*; got"):
        to_onnx(MLP((5,), ("relu",)), params)
    with pytest.raises(ModelError, match=r"must end in \.onnx"):
        save(to_onnx(spec, params), tmp_path / "model")
    with pytest.raises(InputError, match="at least one; got 0 of uint8"):
        check_parity(spec, params, to_onnx(spec, params), digits.test.images[:0])


def test_numpy_parameters_give_the_same_file() -> None:
    spec = PRESETS["mlp-100"].config.model
    params = init(spec, KEY)
    assert to_onnx(spec, params).SerializeToString() == to_onnx(spec, as_numpy(params)).SerializeToString()


def test_onnxs_own_evaluator_agrees(trained: tuple[Config, FitResult], digits: Dataset) -> None:
    spec, params = trained[0].model, trained[1].state.params
    session = ReferenceEvaluator(to_onnx(spec, params, output="logits"))
    (outputs,) = session.run(None, {"images": np.asarray(digits.test.images)[:, None]})
    np.testing.assert_allclose(outputs, apply(spec, params, digits.test.images), rtol=1e-4, atol=1e-4)


def test_the_package_lists_its_names() -> None:
    assert dir(mnist_onnx) == [
        *("Classifier", "FlaxExport", "Parity", "check_function_parity", "check_parity", "export_flax"),
        *("load", "save", "to_onnx"),
    ]
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = mnist_onnx.nothing


def test_a_network_too_large_for_a_file_is_named_before_it_is_built() -> None:
    message = r"at most 530,000,000 parameters to fit an ONNX file of 2 GB; got 530,001,865; use smaller"
    with pytest.raises(SpecError, match=message):
        to_onnx(MLP((666_669,)), {})


def test_invalid_parameters_are_rejected() -> None:
    spec = MLP((), ())
    params = as_numpy(init(spec, KEY))
    for value in (np.nan, np.inf):
        with pytest.raises(
            SpecError, match="params must be finite float32 numbers; got others in Dense_0/bias"
        ):
            to_onnx(spec, {"Dense_0": {**params["Dense_0"], "bias": np.full(10, value, np.float32)}})
    with pytest.raises(SpecError, match="params must be those of"):
        to_onnx(spec, None)
    with pytest.raises(SpecError, match=r"classes must be 10 names, all different, .*; got \['a'\]"):
        to_onnx(spec, params, classes=["a"])
    with pytest.raises(SpecError, match="metadata must be strings; got 3 for 'a'"):
        to_onnx(spec, params, metadata={"a": 3})


def test_save_overwrites_only_its_own_card(tmp_path: Path) -> None:
    spec = MLP((), ())
    model = to_onnx(spec, init(spec, KEY))
    other = tmp_path / "config.json"
    other.write_text('{"important": 1}')
    with pytest.raises(ModelError, match=r"config\.json would be overwritten"):
        save(model, tmp_path / "config.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert other.read_text() == '{"important": 1}'
    for _ in range(2):
        save(model, tmp_path / "model.onnx")
    del model.metadata_props[:]
    with pytest.raises(ModelError, match="must be one that to_onnx built"):
        save(model, tmp_path / "model.onnx")
