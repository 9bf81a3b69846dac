"""Ensembles: as one function, as one ONNX graph, on the command line."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from helpers.onnx_files import as_numpy, edit

import mnist_onnx
from mnist_jax.cli import main
from mnist_jax.config.networks import CNN, MLP, Ensemble
from mnist_jax.config.serialization import network_from_json, network_to_json
from mnist_jax.config.training import Config
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import SpecError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.nn.model import apply, ensemble_params, init, intermediates
from mnist_jax.training.loop import fit
from mnist_onnx import Classifier, check_parity, load, save, to_onnx
from mnist_onnx.quantize import quantize
from mnist_onnx.webapp_files import with_hidden

KEY = jax.random.key(0)
SMALL, PICTURES = MLP((6, 5), ("relu", "gelu")), CNN((3,), 4, "average", (7,), ("valid",))
MIXED = Ensemble((SMALL, PICTURES, SMALL))


def test_an_ensemble_is_a_value() -> None:
    assert hash(MIXED) == hash(Ensemble([SMALL, PICTURES, SMALL]))
    assert MIXED.num_params == 2 * SMALL.num_params + PICTURES.num_params
    assert MIXED.param_shapes["member_1/Conv_0/kernel"] == (4, 4, 1, 3)
    assert str(MIXED) == f"2 x {SMALL} + {PICTURES}"
    assert network_from_json(json.loads(json.dumps(network_to_json(MIXED)))) == MIXED


def test_invalid_ensembles_are_rejected() -> None:
    for members, message in (
        ((SMALL,), "members must be two or more, each an MLP or a CNN; got (MLP"),
        ((SMALL, MIXED), "members must be two or more, each an MLP or a CNN; got (MLP"),
        (SMALL, "members must be a tuple with one entry per layer; got MLP"),
        ((SMALL, MLP((), (), "sigmoid")), "members must have the same output; got sigmoid and softmax"),
        ((MLP((10**6,), ("relu",)),) * 3, "a network must have at most 2,147,483,647 parameters; got 2,385,"),
    ):
        with pytest.raises(SpecError, match=re.escape(message)):
            Ensemble(members)
    with pytest.raises(SpecError, match="train its members one by one"):
        Config(MIXED)
    with pytest.raises(SpecError, match="members must be a list of networks; got 3"):
        network_from_json({"members": 3})
    with pytest.raises(SpecError, match="model must have the fields hidden"):
        network_from_json({"members": [network_to_json(MIXED)] * 2})


@pytest.mark.slow
def test_its_logits_are_the_mean_of_its_members(digits: Dataset) -> None:
    members = [init(spec, jax.random.key(i)) for i, spec in enumerate(MIXED.members)]
    params, images = ensemble_params(members), digits.test.images[:20]
    outputs = [apply(spec, each, images) for spec, each in zip(MIXED.members, members, strict=True)]
    np.testing.assert_allclose(apply(MIXED, params, images), np.mean(outputs, axis=0), atol=1e-6)
    fresh = init(MIXED, KEY)
    assert jax.tree.map(np.shape, fresh) == jax.tree.map(np.shape, params)
    assert not np.array_equal(*(fresh[f"member_{i}"]["Dense_0"]["kernel"] for i in (0, 2)))


@pytest.mark.usefixtures("unchecked")
def test_parameters_of_one_network_are_rejected() -> None:
    with pytest.raises(SpecError, match="several networks' parameters, in a list; got one dict"):
        ensemble_params(init(SMALL, KEY))  # type: ignore[arg-type]


@pytest.mark.slow
def test_hidden_layers_are_those_of_its_members_in_order(digits: Dataset) -> None:
    spec = Ensemble((SMALL,) * 11)  # member_10 must not come before member_2
    params = init(spec, KEY)
    layers = intermediates(spec, params, digits.test.images[:3])
    assert [layer.shape for layer in layers] == [(3, 6), (3, 5)] * 11
    last = intermediates(SMALL, params["member_10"], digits.test.images[:3])
    np.testing.assert_allclose(layers[-1], last[-1], atol=1e-6)
    linear = Ensemble((MLP((), ()),) * 2)
    assert intermediates(linear, init(linear, KEY), digits.test.images[:3]) == ()


@pytest.mark.slow
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_it_is_one_graph_equal_to_jax(tmp_path: Path, digits: Dataset, output: str) -> None:
    spec = Ensemble((MLP((6,), ("relu",), output), CNN((3,), 4, dense_sizes=(7,), output=output)))
    params = as_numpy(jax.tree.map(lambda leaf: leaf * 2 + 0.05, init(spec, KEY)))
    path = tmp_path / "model.onnx"
    for input_ in ("uint8", "float32"):
        for kind in ("probabilities", "logits"):
            model = to_onnx(spec, params, input=input_, output=kind)
            onnx.checker.check_model(model, full_check=True)
            assert check_parity(spec, params, model, digits.test.images).passed
            save(model, path)
            loaded_spec, loaded = load(path)
            assert loaded_spec == spec
            jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert [node.op_type for node in to_onnx(spec, params, input="float32").graph.node] == [
        *("Flatten", "Gemm", "Relu", "Gemm"),
        *("Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Relu", "Gemm"),
        *("Sum", "Mul", output.capitalize()),
    ]


@pytest.mark.slow
def test_the_proof_fails_each_mutant(digits: Dataset) -> None:
    spec = Ensemble((MLP((8,), ("relu",)),) * 3)
    member = Config(spec.members[0], epochs=2)
    trained = [fit(member, digits.train, key=jax.random.key(seed)).params for seed in range(3)]
    params, images = ensemble_params(trained), digits.test.images
    model = to_onnx(spec, params)
    assert check_parity(spec, params, model, images).passed

    def twice_the_first(model: onnx.ModelProto) -> onnx.ModelProto:
        (total,) = [node for node in model.graph.node if node.op_type == "Sum"]
        total.input[2] = total.input[0]
        return model

    mutants = {
        "another share": edit(model, "share", lambda _: np.float32(1 / 4)),
        "a member's bias dropped": edit(model, "member_1.Dense_1.bias", np.zeros_like),
        "two members alike": to_onnx(spec, ensemble_params([trained[0], trained[0], trained[2]])),
        "one member counted twice": twice_the_first(to_onnx(spec, params)),
    }
    for name, mutant in mutants.items():
        assert not check_parity(spec, params, mutant, images).passed, name


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8", "int8-static"])
def test_it_can_be_quantized(digits: Dataset, precision: str) -> None:
    spec = Ensemble((MLP((16,), ("relu",)),) * 2)
    member = Config(spec.members[0], epochs=4)
    trained = [fit(member, digits.train, key=jax.random.key(seed)).params for seed in range(2)]
    params = ensemble_params(trained)
    smaller = quantize(to_onnx(spec, params), precision, images=digits.train.images)
    assert check_parity(spec, params, smaller, digits.test.images).passed


def test_the_page_gets_the_hidden_layers_of_each_member() -> None:
    model = with_hidden(to_onnx(MIXED, init(MIXED, KEY)))
    names = [value.name for value in model.graph.output]
    assert names[0] == "probabilities"
    assert [name.split(".")[0] for name in names[1:]] == [
        *["member_0"] * 2, *["member_1"] * 2, *["member_2"] * 2
    ]  # fmt: skip


@pytest.mark.slow
def test_runs_are_combined_into_one_file(
    run_dir: Path, tmp_path: Path, digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other", tmp_path / "all.onnx"
    assert main(["train", "--preset", "mlp-100", "--dataset", "digits", "--epochs", "2", "--seed", "1",
                 "--out", str(other)]) == 0  # fmt: skip
    capsys.readouterr()
    assert main(["ensemble", str(run_dir), str(other), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    spec, params = load(out)
    assert found["parameters"] == spec.num_params == 2 * 79_510
    scores = evaluate(spec, params, digits.test)
    assert found["test"]["confusion"] == scores.confusion.tolist()
    assert found["validation"]["n"] == 300  # the fifth held out by both
    for member, folder in zip(found["members"], (run_dir, other), strict=True):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert member == {
            "run": str(folder),
            "validation": metrics["validation"]["accuracy"],
            "test": metrics["test"]["accuracy"],
        }
    answers = Classifier(out).predict(np.asarray(digits.test.images)).argmax(-1)
    assert (answers == digits.test.labels).mean() == pytest.approx(found["test"]["accuracy"])

    assert main(["ensemble", str(run_dir), str(other), "--out", str(out)]) == 0
    stdout = capsys.readouterr().out
    assert f"member     {other}: test" in stdout
    assert "equals JAX: 297 images" in stdout

    words = ["verify", str(out), "--run", str(run_dir)]
    assert main([*words, "--run", str(other)]) == 0
    assert "equals JAX: 297 images" in capsys.readouterr().out
    assert main(words) == 2
    assert "an ensemble needs --run for each of its members" in capsys.readouterr().err


def test_a_file_that_fails_the_proof_is_not_written(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = Path(shutil.copytree(run_dir, tmp_path / "other")), tmp_path / "all.onnx"
    monkeypatch.setattr(
        mnist_onnx, "check_parity", lambda *a, **k: check_parity(*a, **k)._replace(passed=False)
    )
    assert main(["ensemble", str(run_dir), str(other), "--out", str(out)]) == 1
    assert "the file must pass the parity check; it did not, and was not written" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_validation_data_held_out_by_one_member_only_are_not_scored(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert main(["train", "--preset", "mlp-128-64", "--dataset", "digits", "--epochs", "1",
                 "--out", str(other)]) == 0  # fmt: skip
    (other / "metrics.json").unlink()
    capsys.readouterr()
    assert main(["ensemble", str(run_dir), str(other), "--out", str(tmp_path / "a.onnx"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["validation"] is None
    assert found["members"][1] == {"run": str(other), "validation": None, "test": None}


@pytest.mark.slow
def test_runs_that_cannot_be_combined_are_rejected(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([run_dir], "ensemble needs two or more different runs; got"),
        ([run_dir, tmp_path], "must be a run directory"),
        ([run_dir, run_dir / ".." / "run"], "ensemble needs two or more different runs; got"),
    ):
        assert main(["ensemble", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    other = tmp_path / "other"
    assert main(["train", "--preset", "mlp-100-sigmoid", "--dataset", "digits", "--epochs", "1",
                 "--out", str(other)]) == 0  # fmt: skip
    (tmp_path / "mine.json").write_text("{}")
    for out, message in (
        ("model.txt", "--out must name a .onnx file; got"),
        ("none/model.onnx", "--out must name a file in a directory that exists; got"),
        ("other/model.onnx", "--out must not be another run's own file; got"),
        ("mine.onnx", "mine.json would be overwritten, but save did not write it"),
        ("model.onnx", "members must have the same output; got sigmoid and softmax"),
    ):
        assert main(["ensemble", str(run_dir), str(other), "--out", str(tmp_path / out)]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))
