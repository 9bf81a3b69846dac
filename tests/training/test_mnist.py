"""Tests on the real MNIST; skipped if it is not available."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers.networks import NETWORKS
from helpers.onnx_files import edit, without_weights_of_black_pixels

from mnist_jax.cli import main
from mnist_jax.config.networks import MLP
from mnist_jax.config.presets import PRESETS
from mnist_jax.config.training import Config
from mnist_jax.data.datasets import load
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.runs import directory
from mnist_jax.training.loop import fit
from mnist_onnx import check_parity, to_onnx


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
    return pytest.param(name, marks=[] if quick else [pytest.mark.nightly])


@pytest.mark.slow
@pytest.mark.parametrize("name", [most_take_long(name) for name in NETWORKS if name in PRESETS])
def test_every_preset_learns_and_its_file_passes_verify(
    name: str, mnist_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ["--preset", name, "--epochs", "1", "--data-dir", str(mnist_dir), "--out", str(out)]
    assert main(["train", *arguments]) == 0
    assert directory.read_json(out, directory.METRICS)["test"]["n"] == 10_000
    assert directory.read_json(out, directory.METRICS)["test"]["accuracy"] > 0.92
    assert main(["verify", str(out), "--data-dir", str(mnist_dir)]) == 0
    assert "equals JAX: 10,000 images and 1,280 of noise, 0 mismatches" in capsys.readouterr().out


@pytest.mark.slow
def test_mutants_with_equal_predictions_fail_the_parity_check(mnist_dir: Path) -> None:
    data = load("mnist", mnist_dir)
    config = Config(MLP((50, 50), ("relu", "relu")), epochs=1, batch_size=128)
    params = fit(config, data.train, key=jax.random.key(0)).state.params
    spec, images = config.model, np.asarray(data.test.images)
    model = to_onnx(spec, params)
    assert check_parity(spec, params, model, images).passed
    blind = {
        "scale": lambda _: np.float32(1 / 256),
        "Dense_0.weight": without_weights_of_black_pixels(images),
        "Dense_2.bias": np.zeros_like,
        "Dense_1.weight": np.transpose,
    }
    for name, change in blind.items():
        assert not check_parity(spec, params, edit(model, name, change), images).passed, name


def test_all_test_images_are_counted(mnist_dir: Path) -> None:
    data = load("mnist", mnist_dir)
    spec = MLP((), ())
    zeros = {"Dense_0": {"kernel": np.zeros((784, 10), np.float32), "bias": np.zeros(10, np.float32)}}
    for batch_size in (16, 1_000, 4_096):
        result = jax.jit(evaluate, static_argnums=0, static_argnames="batch_size")(
            spec, zeros, data.test, batch_size=batch_size
        )
        assert int(result.n) == 10_000
        assert int(result.confusion[:, 0].sum()) == 10_000  # all logits are equal: argmax is 0
        assert float(result.accuracy) == pytest.approx(0.0980)
        assert float(result.loss) == pytest.approx(np.log(10), rel=1e-5)
