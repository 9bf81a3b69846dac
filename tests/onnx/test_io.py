"""Loading files back into JAX, and rejecting files that contradict their metadata."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from helpers.networks import NETWORKS
from helpers.onnx_files import as_numpy, edit, with_metadata

from mnist_jax.config.networks import CNN, MLP, Spec
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples
from mnist_jax.errors import ModelError
from mnist_jax.nn.model import init
from mnist_jax.training.records import FitResult
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_step
from mnist_onnx import load, save, to_onnx
from mnist_onnx.graph_limits import check_graph

KEY = jax.random.key(0)
ODD = CNN((3, 5), 4, "max", (7, 6), ("same", "valid"), "gelu", "sigmoid", "he_normal")


@pytest.mark.slow
@pytest.mark.parametrize("spec", [*NETWORKS.values(), ODD, MLP((), ())])
def test_a_file_comes_back_bit_for_bit(tmp_path: Path, spec: Spec) -> None:
    params = as_numpy(init(spec, KEY))
    path = tmp_path / "model.onnx"
    for input_ in ("uint8", "float32"):
        for output in ("probabilities", "logits"):
            model = to_onnx(spec, params, input=input_, output=output, metadata={"preset": "mine"})
            save(model, path)
            loaded_spec, loaded = load(path)
            assert loaded_spec == spec
            jax.tree.map(np.testing.assert_array_equal, loaded, params)
            assert (
                to_onnx(loaded_spec, loaded, input=input_, output=output, metadata={"preset": "mine"})
                == model
            )


@pytest.mark.slow
def test_training_continues_from_a_loaded_file(
    tmp_path: Path, trained: tuple[Config, FitResult], digits: Dataset
) -> None:
    config, run = trained
    save(to_onnx(config.model, run.params), tmp_path / "model.onnx")
    spec, params = load(tmp_path / "model.onnx")
    state = init_state(replace(config, model=spec), KEY)._replace(params=params)
    batch = Examples(digits.train.images[:32], digits.train.labels[:32])
    stepped, _ = train_step(config, HyperParams(), state, batch)
    expected, _ = train_step(config, HyperParams(), state._replace(params=run.params), batch)
    jax.tree.map(np.testing.assert_array_equal, stepped.params, expected.params)


def changed(model: onnx.ModelProto, change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    mutant = onnx.ModelProto()
    mutant.CopyFrom(model)
    change(mutant)
    return mutant


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def enormous(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[:] = [2**40, 2**20]


def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    spec = MLP((5,), ("relu",))
    good = to_onnx(spec, init(spec, KEY))
    mutants = {
        "a weight": (edit(good, "Dense_1.weight", lambda w: w * np.float32(1.01)), "is damaged"),
        "the scale": (
            edit(good, "scale", lambda _: np.float32(1 / 256)),
            "is damaged: its graph does not",
        ),
        "the activation": (
            changed(good, lambda m: setattr(m.graph.node[4], "op_type", "Tanh")),
            "is damaged: its graph does not",
        ),
        "a node less": (changed(good, lambda m: m.graph.node.pop()), "is damaged: its graph does not"),
        "a tensor less": (changed(good, lambda m: m.graph.initializer.pop()), "is damaged"),
        "another network": (
            with_metadata(good, network='{"hidden_sizes": [6]}'),
            "is damaged: model must have",
        ),
        "no JSON": (with_metadata(good, network="{"), "is damaged"),
        "too deep": (with_metadata(good, network="[" * 100_000), "is damaged"),
        "wrong labels": (with_metadata(good, labels="[1]"), "is damaged: classes must be 10 names"),
        "another range": (with_metadata(good, input_range="0..1"), "is damaged: its graph does not"),
        "another sum": (with_metadata(good, parameters_sha256="0"), "is damaged: its graph does not"),
        "weights elsewhere": (
            changed(good, external),
            "must hold its own weights; those of 'Dense_0.weight'",
        ),
        "an absurd shape": (changed(good, enormous), "is damaged"),
        "another opset": (
            changed(good, lambda m: setattr(m.opset_import[0], "version", 9)),
            "is damaged: its graph does not",
        ),
        "another IR": (
            changed(good, lambda m: setattr(m, "ir_version", 99)),
            "is damaged: its graph does not",
        ),
        "another shape": (
            changed(good, lambda m: m.graph.value_info[0].type.tensor_type.shape.dim.pop()),
            "is damaged: its graph does not",
        ),
        "rounded": (with_metadata(good, precision="int8"), "must hold float32 weights; got int8, which are"),
        "foreign": (changed(good, lambda m: m.ClearField("metadata_props")), "its metadata lacks format"),
    }
    path = tmp_path / "model.onnx"
    for name, (mutant, message) in mutants.items():
        path.write_bytes(mutant.SerializeToString())
        with pytest.raises(ModelError, match=message) as refusal:
            load(path)
        assert len(str(refusal.value).splitlines()) == 1, name
    for data in (b"not ONNX", good.SerializeToString()[:-7]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="must be an ONNX file; it is damaged, or not ONNX"):
            load(path)
    with pytest.raises(ModelError, match="it cannot be read: No such file"):
        load(tmp_path / "nothing.onnx")


def test_weights_in_other_files_are_never_read(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnist_onnx import Classifier

    spec = MLP((5,), ("relu",))
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 784 * 5))
    model = changed(to_onnx(spec, init(spec, KEY)), external)
    tensor = model.graph.initializer[1]
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=str(secret))
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "model.onnx"
    monkeypatch.chdir(tmp_path)
    for place in (str(secret), "secret", "../secret", "run/../secret"):
        tensor.external_data[0].value = place
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="must hold its own weights"):
            Classifier(path)
        with pytest.raises(ModelError, match="must hold its own weights"):
            load(path)


def old_and_new(tmp_path: Path) -> tuple[Path, onnx.ModelProto, onnx.ModelProto]:
    """The path of a saved file, its model, and the model to save next."""
    spec, path = MLP((), ()), tmp_path / "model.onnx"
    old, new = (to_onnx(spec, init(spec, jax.random.key(seed))) for seed in (0, 1))
    save(old, path)
    return path, old, new


@pytest.mark.parametrize("killed_at", range(5))
def test_a_killed_save_leaves_a_pair_or_what_is_refused_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """Killed before each of its steps (two writes, two renames), and never."""
    path, old, new = old_and_new(tmp_path)
    steps = 0

    def killed(function: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object) -> object:
            nonlocal steps
            if steps == killed_at:
                raise KeyboardInterrupt
            steps += 1
            return function(*arguments)

        return step

    monkeypatch.setattr("os.fsync", killed(os.fsync))
    monkeypatch.setattr(Path, "replace", killed(Path.replace))
    with contextlib.suppress(KeyboardInterrupt):
        save(new, path)
    monkeypatch.undo()
    if killed_at == 3:
        with pytest.raises(ModelError, match=r"model\.json must describe model\.onnx; .*; export again"):
            load(path)
        save(new, path)
    spec, params = load(path)
    assert to_onnx(spec, params) == (old if killed_at < 3 else new)
    assert json.loads(path.with_suffix(".json").read_bytes())["bytes"] == path.stat().st_size
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_with_the_card_of_another_is_rejected(
    tmp_path: Path, run_dir: Path, digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    from mnist_jax.cli import main
    from mnist_onnx import Classifier

    path, _, new = old_and_new(tmp_path)
    path.write_bytes(new.SerializeToString())
    for read in (load, Classifier, lambda path: Classifier(path, input_range="0..1")):
        with pytest.raises(ModelError, match="it describes another file, as after an export that was killed"):
            read(path)
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    (run / "model.onnx").write_bytes(new.SerializeToString())
    for command in ("verify", "report", "serve", "web"):
        options = ["--out", str(tmp_path / "site")] * (command == "web")
        assert main([command, str(run), *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "model.json must describe model.onnx" in line
    path.with_suffix(".json").unlink()  # the file alone is valid
    assert Classifier(path).predict(digits.test.images[:1]).shape == (1, 10)
    path.with_suffix(".json").write_text("{}")  # and so it is beside another .json
    assert Classifier(path).predict(digits.test.images[:1]).shape == (1, 10)


@pytest.mark.parametrize(
    "mark",
    [
        lambda tensor: tensor.external_data.add(key="location", value="secret"),
        lambda tensor: setattr(tensor, "data_location", onnx.TensorProto.EXTERNAL),
    ],
    ids=["external_data", "data_location"],
)
def test_arrays_in_attributes_are_not_read_from_other_files(mark: Callable[[object], object]) -> None:
    node = onnx.helper.make_node("Constant", [], ["c"], value=onnx.helper.make_tensor("v", 1, [1], [0.0]))
    mark(node.attribute[0].t)
    graph = onnx.helper.make_graph([node], "g", [], [])
    with pytest.raises(ModelError, match="must hold its own weights"):
        check_graph(onnx.helper.make_model(graph).SerializeToString())
