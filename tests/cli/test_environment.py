"""Environment variables of JAX and Matplotlib work, or fail with one line and exit code 2."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from helpers.trees import leaves_equal

from mnist_jax._utils import process_setup
from mnist_jax.cli import main
from mnist_jax.cli.report import command
from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import DivergenceError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.runs import directory
from mnist_jax.training import checkpoint
from mnist_jax.training.loop import fit
from mnist_jax.training.start import init_state
from mnist_jax.training.sweep import fit_many

CONFIG = Config(MLP((16,), ("relu",)), epochs=2)
KEY = jax.random.key(0)
TRAIN = ["train", "--dataset", "digits", "--preset", "mlp-100"]


def in_environment(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "mnist_jax.cli", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JAX_PLATFORMS", "cuda", "JAX must be able to start; "),
        ("JAX_PLATFORMS", "nope", "JAX must be able to start; .*'nope'"),
        ("JAX_ENABLE_X64", "maybe", "JAX must be able to start; .*'maybe'"),
        ("JAX_RANDOM_SEED_OFFSET", "7", "JAX_RANDOM_SEED_OFFSET must be 0, .*; got 7; unset it"),
        ("JAX_THREEFRY_PARTITIONABLE", "0", "JAX_THREEFRY_PARTITIONABLE must be 1, .*; got 0; unset it"),
        ("MPLBACKEND", "nope", "Matplotlib must be able to start; .*'nope'"),
    ],
)
def test_an_invalid_variable_is_one_line_before_any_file_is_written(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    import re

    done = in_environment(tmp_path, *TRAIN, "--report", "--out", "run", **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.match(f"mnist-jax: {message}", line), line
    assert line.endswith((f"; check {name}={value}", "; unset it"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        [*TRAIN, "--out", "{new}"],
        ["train", "--resume", "{run}", "--epochs", "9"],
        ["sweep", "--dataset", "digits", "--out", "{new}"],
        ["tune", "--dataset", "digits", "--out", "{new}"],
        ["evaluate", "{run}"],
        ["export", "{run}", "--precision", "int8-static", "--out", "{new}.onnx"],
        ["verify", "{run}"],
        ["report", "{run}", "--out", "{new}.html"],
        ["compare", "{run}", "{copy}", "--out", "{new}.html"],
        ["ensemble", "{run}", "{copy}", "--out", "{new}.onnx"],
        ["web", "{run}", "--out", "{new}"],
        ["serve", "{run}"],
        ["reproduce", "--preset", "mlp-100"],
    ],
)
def test_every_command_that_uses_jax_says_so_where_it_cannot_start(
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    def none() -> list[jax.Device]:
        raise AssertionError  # as JAX raises for a missing platform plugin

    copy = tmp_path / "copy"
    copy.mkdir()
    for path in run_dir.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(jax, "devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    assert main([word.format(run=run_dir, copy=copy, new=tmp_path / "new") for word in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "JAX must be able to start; there is no such platform on this machine; check JAX_" in line
    assert "JAX_PLATFORMS=abacus" in line
    assert list(tmp_path.iterdir()) == [copy]


@pytest.mark.slow
def test_strict_promotion_guarded_transfers_and_backends_that_are_not_there_change_nothing(
    tmp_path: Path,
) -> None:
    """A run with all settings is bit-identical to a run without any."""
    arguments = *TRAIN, "--epochs", "2", "--out", "run"
    settings = {
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_TRANSFER_GUARD": "disallow_explicit",
        "JAX_COMPILATION_CACHE_DIR": "/dev/null/not/there",
        "MPLBACKEND": "module://not_there.backend",
    }
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    done = in_environment(tmp_path / "a", *arguments, "--report", **settings)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 5, done.stderr
    assert in_environment(tmp_path / "b", *arguments).returncode == 0
    a, b = (checkpoint.load_params(tmp_path / name / "run" / directory.CHECKPOINT)[0] for name in "ab")
    assert leaves_equal(a, b)
    assert (tmp_path / "a" / "run" / "report.html").stat().st_size > 100_000


def test_a_report_ignores_the_users_backend(run_dir: Path, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    assert main(["report", str(run_dir), "--out", str(tmp_path / "report.html")]) == 0
    assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_transfer_guards_do_not_affect_intended_transfers(digits: Dataset) -> None:
    images = digits.test.images[:100]
    with jax.transfer_guard("disallow"):
        run = fit(CONFIG, digits.train, digits.validation, key=KEY, hyperparams=HyperParams(2e-3, 0.01, 0.1))
        again = fit(Config(CONFIG.model, epochs=3), digits.train, state=run.state)
        many = fit_many(CONFIG, digits.train, digits.validation, keys=jax.random.split(KEY, 2))
        result = evaluate(CONFIG.model, run.params, digits.test)
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
            jnp.sin(images)
    assert len(again.history) == 1
    assert len(many.histories) == 2
    assert result.n == len(digits.test.labels)


@contextmanager
def _checked_for(kind: str) -> Iterator[None]:
    with jax.debug_nans(kind == "nans"), jax.debug_infs(kind == "infs"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nans", "infs"])
def test_jax_debug_nans_is_reported_as_divergence(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    plain = fit(CONFIG, digits.train, digits.validation, key=KEY)
    with _checked_for(kind):
        assert leaves_equal(fit(CONFIG, digits.train, digits.validation, key=KEY).params, plain.params)
        with pytest.raises(DivergenceError, match="training diverged in epoch 1") as refusal:
            fit(CONFIG, digits.train, key=KEY, hyperparams=HyperParams(1e30))
        assert leaves_equal(refusal.value.state.params, init_state(CONFIG, KEY).params)
        assert refusal.value.history == []
        words = ["--learning-rate", "1e30", "--epochs", "1", "--out", str(tmp_path / "run")]
        assert main([*TRAIN, *words]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("mnist-jax: loss and parameters must stay finite; training diverged in epoch")
        assert last.endswith(f"; the last finite state is in {tmp_path / 'run'}")
        params, _ = checkpoint.load_params(tmp_path / "run" / directory.CHECKPOINT)
        assert np.isfinite(params["Dense_0"]["bias"]).all()
        # Training succeeds, but evaluation fails:
        words = ["--learning-rate", "1e20", "--epochs", "1", "--batch-size", "1350"]
        assert main(["train", "--dataset", "digits", *words, "--out", str(tmp_path / "other")]) == 1
        assert "the last finite state is in" in capsys.readouterr().err


def test_jax_debug_nans_does_not_abort_other_runs(digits: Dataset) -> None:
    hyperparams = HyperParams(np.array([1e-3, 1e30]))
    with _checked_for("nans"):
        many = fit_many(
            CONFIG, digits.train, keys=jax.random.split(KEY, 2), hyperparams=hyperparams, group_size=2
        )
    assert np.isfinite([history[-1].loss for history in many.histories]).tolist() == [True, False]


@pytest.mark.slow
def test_a_resumed_run_keeps_its_prng_impl(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run keeps its PRNG implementation whatever JAX's default is, and its command names it."""
    words = [*TRAIN, "--deformation", "shift=1", "--dropout", "0.1"]
    with jax.default_prng_impl("rbg"):
        assert main([*words, "--epochs", "1", "--out", str(tmp_path / "stopped")]) == 0
        assert main([*words, "--epochs", "2", "--out", str(tmp_path / "whole")]) == 0
    assert json.loads((tmp_path / "stopped" / directory.CONFIG).read_text())["prng_impl"] == "rbg"
    assert main(["train", "--resume", str(tmp_path / "stopped"), "--epochs", "2", "--report"]) == 0
    assert main([*words, "--epochs", "2", "--out", str(tmp_path / "plain")]) == 0
    stopped, whole, plain = (
        checkpoint.load_params(tmp_path / name / directory.CHECKPOINT)[0]
        for name in ("stopped", "whole", "plain")
    )
    assert leaves_equal(stopped, whole)
    assert not leaves_equal(plain, whole)
    assert command(directory.read(tmp_path / "whole"), 2).startswith(
        "JAX_DEFAULT_PRNG_IMPL=rbg mnist-jax train "
    )
    assert command(directory.read(tmp_path / "plain"), 2).startswith("mnist-jax train ")


def test_a_state_works_under_another_default_prng_impl(digits: Dataset, tmp_path: Path) -> None:
    key = jax.random.key(0, impl="rbg")
    whole = fit(CONFIG, digits.train, key=key)
    first = fit(Config(CONFIG.model, epochs=1), digits.train, key=key)
    checkpoint.save(tmp_path / "state", first.state, {})
    state, _ = checkpoint.load(tmp_path / "state", jax.eval_shape(lambda: init_state(CONFIG, KEY)))
    for begin in (first.state, state):
        assert leaves_equal(fit(CONFIG, digits.train, state=begin).params, whole.params)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        "LANG=C LC_ALL=C PYTHONUTF8=0 NO_COLOR=1",
        "TERM=dumb COLUMNS=abc TMPDIR=/not/there",
        "PYTHONWARNINGS=error HOME=/proc XDG_CACHE_HOME=/proc/x",
    ],
)
def test_a_bare_environment_is_enough(tmp_path: Path, setting: str) -> None:
    settings = dict(pair.split("=") for pair in setting.split())
    done = in_environment(tmp_path, *TRAIN, "--epochs", "1", "--report", "--out", "run", **settings)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 4, done.stderr


def test_errors_from_jax_settings_are_one_line_and_bugs_are_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("no tracing now\nand more")

    monkeypatch.setattr(process_setup, "_enable_compilation_cache", fail)
    for name in [name for name in os.environ if name.startswith("JAX_")]:
        monkeypatch.delenv(name)
    with pytest.raises(RuntimeError, match="no tracing now"):
        main([*TRAIN])
    monkeypatch.setenv("JAX_NO_TRACING", "1")
    assert main([*TRAIN]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("JAX must be able to work; RuntimeError: no tracing now; check JAX_NO_TRACING=1")
