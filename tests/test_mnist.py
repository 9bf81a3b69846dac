"""The real MNIST, where it is at hand."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from mutants import edit, without_weights_of_black_pixels
from specimens import NETWORKS

from mnist_jax import runs
from mnist_jax.cli import main
from mnist_jax.datasets import load
from mnist_jax.evaluation import evaluate
from mnist_jax.loop import fit
from mnist_jax.networks import MLP
from mnist_jax.presets import PRESETS
from mnist_jax.specs import Config
from mnist_onnx import parity, to_onnx


def test_the_data_is_mnist(mnist_dir: Path) -> None:
    data = load("mnist", mnist_dir, validation_fraction=0.2)
    assert data.validation is not None
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [48_000, 12_000, 10_000]
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    labels = np.concatenate([data.train.labels, data.validation.labels])
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert float(np.mean(data.test.images)) == pytest.approx(33.79, abs=0.01)


def most_take_long(name: str) -> Any:
    quick = name in ("mlp-100", "mlp-50-50-sigmoid", "mlp-128-64")
    return pytest.param(name, marks=[] if quick else [pytest.mark.slow, pytest.mark.long])


@pytest.mark.slow
@pytest.mark.parametrize("name", [most_take_long(name) for name in NETWORKS if name in PRESETS])
def test_every_preset_learns_and_its_file_passes_verify(
    name: str, mnist_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ["--preset", name, "--epochs", "1", "--data-dir", str(mnist_dir), "--out", str(out)]
    assert main(["train", *arguments]) == 0
    assert runs.read_json(out, runs.METRICS)["test"]["n"] == 10_000
    assert runs.read_json(out, runs.METRICS)["test"]["accuracy"] > 0.92
    assert main(["verify", str(out), "--data-dir", str(mnist_dir)]) == 0
    assert "equals JAX: 10,000 images and 1,280 of noise, 0 other answers" in capsys.readouterr().out


def test_mutants_that_answers_cannot_tell_fail_the_proof(mnist_dir: Path) -> None:
    data = load("mnist", mnist_dir)
    config = Config(MLP((50, 50), ("relu", "relu")), epochs=1, batch_size=128)
    params = fit(config, data.train, key=jax.random.key(0)).state.params
    spec, images = config.model, np.asarray(data.test.images)
    model = to_onnx(spec, params)
    assert parity(spec, params, model, images).passed
    blind = {
        "scale": lambda _: np.float32(1 / 256),
        "Dense_0.weight": without_weights_of_black_pixels(images),
        "Dense_2.bias": np.zeros_like,
        "Dense_1.weight": np.transpose,
    }
    for name, change in blind.items():
        assert not parity(spec, params, edit(model, name, change), images).passed, name


def test_ten_thousand_of_ten_thousand_are_counted(mnist_dir: Path) -> None:
    data = load("mnist", mnist_dir)
    spec = MLP((), ())
    zeros = {"Dense_0": {"kernel": np.zeros((784, 10), np.float32), "bias": np.zeros(10, np.float32)}}
    for batch_size in (16, 1_000, 4_096):
        found = jax.jit(evaluate, static_argnums=0, static_argnames="batch_size")(
            spec, zeros, data.test, batch_size=batch_size
        )
        assert int(found.n) == 10_000
        assert int(found.confusion[:, 0].sum()) == 10_000  # all ten alike: the first is taken
        assert float(found.accuracy) == pytest.approx(0.0980)
        assert float(found.loss) == pytest.approx(np.log(10), rel=1e-5)
