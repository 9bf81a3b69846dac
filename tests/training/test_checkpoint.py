import functools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from mnist_jax._utils import param_dicts
from mnist_jax.cli import main
from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import CheckpointError
from mnist_jax.training import checkpoint
from mnist_jax.training.records import FitResult
from mnist_jax.training.start import init_state
from mnist_jax.training.step import TrainState, train_epoch


def skeleton(config: Config) -> TrainState:
    return jax.eval_shape(functools.partial(init_state, config), jax.random.key(0))


@pytest.fixture
def saved(tmp_path: Path, trained: tuple[Config, FitResult]) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, trained[1].state, {"preset": "mine"})
    return path


def test_a_loaded_state_is_bit_identical_and_trains_identically(
    saved: Path, trained: tuple[Config, FitResult], digits: Dataset
) -> None:
    config, run = trained
    loaded, metadata = checkpoint.load(saved, skeleton(config))
    assert metadata["preset"] == "mine"
    epoch = jax.jit(functools.partial(train_epoch, config, HyperParams()))
    for before, after in (
        (run.state, loaded),
        (epoch(run.state, digits.train)[0], epoch(loaded, digits.train)[0]),
    ):
        assert jax.tree.structure(before) == jax.tree.structure(after)
        assert jax.random.key_impl(before.key) == jax.random.key_impl(after.key)
        for state in (before, after):
            assert jax.random.key_data(state.key).tolist() == jax.random.key_data(run.state.key).tolist()
        for a, b in zip(jax.tree.leaves(before[:3]), jax.tree.leaves(after[:3]), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_load_params_returns_numpy_arrays(saved: Path, trained: tuple[Config, FitResult]) -> None:
    params, metadata = checkpoint.load_params(saved)
    assert metadata["preset"] == "mine"
    assert jax.tree.structure(params) == jax.tree.structure(trained[1].state.params)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(trained[1].state.params), strict=True):
        assert type(a) is np.ndarray
        np.testing.assert_array_equal(a, b)


def test_the_metadata_is_readable_without_this_package(saved: Path) -> None:
    with safetensors.safe_open(saved, "np") as file:
        metadata = json.loads(file.metadata()["mnist_jax"])
        names = set(file.keys())
    assert metadata["preset"] == "mine"
    assert metadata["format"] == 2
    assert {"params/Dense_0/kernel", "opt_state/0/0/mu/Dense_0/kernel", "step", "key"} <= names


def test_every_flipped_bit_in_the_arrays_is_noticed(saved: Path, trained: tuple[Config, FitResult]) -> None:
    data = saved.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for position in np.random.default_rng(0).integers(start, len(data), 20):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(position % 8)
        saved.write_bytes(flipped)
        with pytest.raises(
            CheckpointError, match=r"is damaged: its content must have sha256 \w{64}; got \w{64}"
        ):
            checkpoint.load_params(saved)


@pytest.mark.parametrize("length", [0, 7, 8, 100, 5_000, -1])
def test_a_truncated_file_is_refused(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="must be a checkpoint of mnist-jax; it cannot be read"):
        checkpoint.load_params(saved)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        checkpoint.load_params(tmp_path / "nothing")
    foreign = tmp_path / "foreign"
    safetensors.numpy.save_file({"x": np.zeros(3)}, foreign)
    with pytest.raises(CheckpointError, match="must be a checkpoint of mnist-jax"):
        checkpoint.load_params(foreign)
    with foreign.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match="it must have at most 17,179,869,184 bytes; got 1,099,511,"):
        checkpoint.load_params(foreign)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CheckpointError, match="it must be an ordinary file; got a pipe"):
            checkpoint.load_params(tmp_path / "pipe")


def with_header(path: Path, *, arrays: dict[str, np.ndarray] | None = None, **fields: object) -> None:
    """Rewrites a checkpoint with other arrays or header fields, and a valid checksum."""
    flat, header = checkpoint._read(path)
    flat, header = flat | (arrays or {}), header | fields
    header["sha256"] = checkpoint._digest(flat, header)
    path.write_bytes(safetensors.numpy.save(flat, {"mnist_jax": json.dumps(header)}))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "1", True, 0, 1.0, None])
def test_a_format_is_a_whole_number(saved: Path, value: object) -> None:
    with_header(saved, format=value)
    with pytest.raises(CheckpointError, match="must have format 2; got"):
        checkpoint.load_params(saved)


@pytest.mark.parametrize("kind", ["nothing", None, 3, []])
def test_an_unknown_key_impl_is_refused(saved: Path, trained: tuple[Config, FitResult], kind: object) -> None:
    with_header(saved, key_impl=kind)
    with pytest.raises(CheckpointError, match="must be a checkpoint with a key of a kind that JAX knows"):
        checkpoint.load(saved, skeleton(trained[0]))


def test_a_key_that_does_not_match_its_key_impl_is_refused(
    saved: Path, trained: tuple[Config, FitResult]
) -> None:
    with_header(saved, key_impl="rbg")  # its keys have four words
    with pytest.raises(CheckpointError, match=r"key must be uint32\[4\]; got uint32\[2\]"):
        checkpoint.load(saved, skeleton(trained[0]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_are_refused(
    saved: Path, trained: tuple[Config, FitResult], value: float
) -> None:
    name = "params/Dense_0/bias"
    with_header(saved, arrays={name: np.full(50, value, np.float32)})
    for read in (checkpoint.load_params, lambda path: checkpoint.load(path, skeleton(trained[0]))):
        with pytest.raises(
            CheckpointError, match="must hold finite float32 parameters; got others in 'params"
        ):
            read(saved)


def test_parameters_of_another_dtype_or_name_are_refused(saved: Path) -> None:
    good = saved.read_bytes()
    with_header(saved, arrays={"params/Dense_0/bias": np.zeros(50, np.float64)})
    with pytest.raises(CheckpointError, match=r"got others in 'params/Dense_0/bias', float64; train again"):
        checkpoint.load_params(saved)
    saved.write_bytes(good)
    with_header(saved, arrays={"params/Dense_0": np.zeros(1, np.float32)})
    with pytest.raises(CheckpointError, match="is damaged: its array names are not those of a network"):
        checkpoint.load_params(saved)


def test_commands_refuse_parameters_without_finite_scores(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    path = run / "checkpoint.safetensors"
    flat, _ = checkpoint._read(path)
    kernels = {name: flat[name] for name in flat if name.startswith("params") and name.endswith("kernel")}
    for factor, message in (
        (np.float32(np.nan), "must hold finite float32 parameters"),
        (np.float32(1e35), "a network's loss must be a finite number; got"),
    ):
        shutil.copy(run_dir / path.name, path)
        with_header(path, arrays={name: factor * kernel for name, kernel in kernels.items()})
        for option in ([], ["--json"]):
            assert main(["evaluate", str(run), *option]) == 2
            printed = capsys.readouterr()
            assert message in printed.err
            assert len(printed.err.splitlines()) == 1
            assert not printed.out
    shutil.copy(run_dir / path.name, path)
    with_header(path, arrays={name: np.float32(np.inf) * kernel for name, kernel in kernels.items()})
    for command in ("export", "verify", "report"):
        assert main([command, str(run)]) == 2
        assert "must hold finite float32 parameters" in capsys.readouterr().err


@pytest.mark.parametrize("number", [1, 3])
def test_another_format_is_refused(
    number: int, saved: Path, monkeypatch: pytest.MonkeyPatch, trained: tuple[Config, FitResult]
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", number)
    checkpoint.save(saved, trained[1].state, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=f"must have format 2; got {number}, of another version"):
        checkpoint.load_params(saved)


def test_a_checkpoint_of_another_model_names_the_first_difference(
    saved: Path, trained: tuple[Config, FitResult]
) -> None:
    config = trained[0]
    deeper = replace(config, model=MLP((50, 50, 50), ("relu",) * 3))
    with pytest.raises(CheckpointError, match=r"of another model or optimizer: .*Dense_3/bias is missing"):
        checkpoint.load(saved, skeleton(deeper))
    wider = replace(config, model=MLP((50, 51), ("relu", "relu")))
    with pytest.raises(CheckpointError, match=r"Dense_1/bias must be float32\[51\]; got float32\[50\]"):
        checkpoint.load(saved, skeleton(wider))


def test_names_and_digests_of_arrays() -> None:
    tree = {"a": {"b": np.arange(3.0), "c": np.int32(1)}}
    flat = param_dicts.flatten(tree)
    assert list(flat) == ["a/b", "a/c"]
    assert param_dicts.digest(param_dicts.flatten(param_dicts.unflatten(flat))) == param_dicts.digest(
        dict(reversed(flat.items()))
    )
    for other in (
        {"a/b": np.arange(3.0)},
        {"a/b": np.arange(3.0).astype(np.float32)},
        {"a/b": np.zeros((3, 1))},
    ):
        assert param_dicts.digest(other) != param_dicts.digest({"a/b": np.zeros(3)})
