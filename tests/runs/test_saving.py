"""Run directories of trainings in Python, and what the command line does with them."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import mnist_jax
from mnist_jax import Config, FlaxModel, HyperParams, fit, save_run
from mnist_jax.cli import main
from mnist_jax.config.networks import CNN, MLP
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import RunError, SpecError
from mnist_jax.report import write_report
from mnist_jax.runs import directory
from mnist_jax.runs.results import parameters_sha256
from mnist_jax.training.callbacks import EarlyStopping, KeepBest

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "config",
    [
        Config(MLP((16,), "mish"), epochs=3),
        Config(CNN((3,)), epochs=1, optimizer=optax.lion, ema_decay=0.9),
        Config(MLP((16,)), epochs=3, loss=optax.softmax_cross_entropy_with_integer_labels),
    ],
    ids=["ours", "an optax function", "a loss function"],
)
def test_commands_take_a_training_in_python(config: Config, digits: Dataset, tmp_path: Path) -> None:
    result = fit(config, digits.train, digits.validation, key=KEY, callback=KeepBest())
    run = tmp_path / "run"
    metrics = save_run(run, config, result, digits, callback=KeepBest(), name="mine")
    assert metrics["onnx"]["passed"]
    assert metrics["best_epoch"] == result.best_epoch
    assert (
        metrics["test"]["accuracy"] == mnist_jax.evaluate(config.model, result.params, digits.test).accuracy
    )
    for command in ("verify", "evaluate", "report", "export"):
        assert main([command, str(run)]) == 0, command
    other = tmp_path / "other"
    save_run(other, config, result, digits, callback=KeepBest(), seed=1)
    assert main(["compare", str(run), str(other), "--out", str(tmp_path / "both.html")]) == 0
    assert main(["ensemble", str(run), str(other), "--out", str(tmp_path / "both.onnx")]) == 0


def test_the_loop_goes_on_from_a_saved_run(digits: Dataset, tmp_path: Path) -> None:
    config = Config(MLP((16,)), epochs=2)
    result = fit(config, digits.train, digits.validation, key=KEY)
    save_run(tmp_path / "run", config, result, digits)
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "3"]) == 0
    whole = fit(Config(MLP((16,)), epochs=3), digits.train, digits.validation, key=KEY)
    resumed, _ = mnist_jax.checkpoint.load_params(tmp_path / "run" / "checkpoint.safetensors")
    assert all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole.params), strict=True)
    )


def test_the_loop_goes_on_with_the_callbacks_of_a_saved_run(digits: Dataset, tmp_path: Path) -> None:
    callbacks = [KeepBest("validation_accuracy"), EarlyStopping("validation_accuracy", patience=3)]
    model, train, validation = MLP((16,)), digits.train, digits.validation
    result = fit(Config(model, epochs=2), train, validation, key=KEY, callback=callbacks)
    run = tmp_path / "run"
    save_run(run, Config(model, epochs=2), result, digits, callback=callbacks)
    assert main(["train", "--resume", str(run), "--epochs", "40"]) == 0
    whole = fit(Config(model, epochs=40), train, validation, key=KEY, callback=callbacks)
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["best_epoch"]) == (len(whole.history), whole.best_epoch)
    assert metrics["parameters_sha256"] == parameters_sha256(whole.params)
    assert len(whole.history) < 40, "early stopping must have had something to do"


def test_callbacks_that_a_run_cannot_hold(digits: Dataset, tmp_path: Path) -> None:
    config, stop = Config(MLP((16,)), epochs=2), EarlyStopping(min_delta=0.1)
    result = fit(config, digits.train, digits.validation, key=KEY, callback=stop)
    with pytest.raises(SpecError, match=r"memory of EarlyStopping must go on .*callback=EarlyStopping"):
        save_run(tmp_path / "run", config, result, digits)
    assert not (tmp_path / "run").exists()
    save_run(tmp_path / "run", config, result, digits, callback=stop)
    assert directory.read(tmp_path / "run").early_stopping is None
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "3"]) == 0


def test_arrays_of_ones_own(digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = np.asarray(digits.train.images), np.asarray(digits.train.labels) % 3
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    data = mnist_jax.data.from_arrays(images, labels, name="remainders", classes=["zero", "one", "two"])
    config = Config(MLP((16,), num_classes=3), epochs=1)
    result = fit(config, data.train, data.validation, key=KEY)
    save_run(tmp_path / "run", config, result, data)
    run = directory.read(tmp_path / "run")
    assert (run.dataset, run.class_names) == ("remainders", ("zero", "one", "two"))
    assert main(["verify", str(tmp_path / "run")]) == 2
    assert "made in Python, from arrays called remainders; give a file or folder" in capsys.readouterr().err
    assert write_report(tmp_path / "run", data).exists()
    with pytest.raises(RunError, match="must be a run on digits, sha256"):
        write_report(tmp_path / "run", digits)
    card = json.loads((tmp_path / "run" / "model.json").read_text())
    assert card["labels"] == ["zero", "one", "two"]


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        hidden = nn.Dense(16)(images.reshape(len(images), -1))
        return nn.Dense(10)(nn.relu(nn.BatchNorm(use_running_average=not train)(hidden)))


def test_a_flax_module_has_a_report(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = FlaxModel(Normalized())
    config = Config(model, epochs=2)
    result = fit(config, digits.train, digits.validation, key=KEY, callback=KeepBest())
    metrics = save_run(tmp_path / "run", config, result, digits, callback=KeepBest())
    assert metrics["onnx"] is None
    assert metrics["parameters"] == model.num_params
    page = write_report(tmp_path / "run", digits, model=model).read_text()
    assert "This network is a Flax module" in page
    assert "Saliency" in page
    for command in (["verify", str(tmp_path / "run")], ["predict", str(tmp_path / "run"), "a.png"]):
        assert main(command) == 2
        assert "its network is the Flax module Normalized; export it from Python" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "Normalized is a Flax module, which a run's config.json cannot hold" in capsys.readouterr().err


def test_mistakes_leave_nothing(digits: Dataset, tmp_path: Path) -> None:
    config = Config(MLP((16,)), epochs=2)
    first = fit(Config(MLP((16,)), epochs=1), digits.train, key=KEY)
    second = fit(config, digits.train, state=first.state)
    with pytest.raises(SpecError, match=r"first epoch; got epochs 2; .* history=first.history \+ second"):
        save_run(tmp_path / "run", config, second, digits)
    with pytest.raises(SpecError, match="save_run takes the result of fit; got TrainState"):
        save_run(tmp_path / "run", config, first.state, digits)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="a run's name must be short and printable"):
        save_run(tmp_path / "run", config, first, digits, name="")
    with pytest.raises(SpecError, match="seed must be a whole number"):
        save_run(tmp_path / "run", config, first, digits, seed=-1)
    assert not (tmp_path / "run").exists()
    save_run(tmp_path / "run", config, second, digits, history=first.history + second.history)
    with pytest.raises(RunError, match="run"):
        save_run(tmp_path / "run", config, second, digits, history=first.history + second.history)
    hyperparams = HyperParams(0.01)
    save_run(tmp_path / "other", config, first, digits, hyperparams=hyperparams)
    assert directory.read(tmp_path / "other").hyperparams == hyperparams
