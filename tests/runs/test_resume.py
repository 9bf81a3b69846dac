"""Stopped runs resume to bit-identical results, however they were stopped."""

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import onnx
import pytest

from mnist_jax._utils import param_dicts
from mnist_jax.cli import console, main, signals
from mnist_jax.config.deformation import Deformation
from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import CheckpointError, RunError, SpecError
from mnist_jax.runs import directory, locking, session
from mnist_jax.training import checkpoint
from mnist_jax.training.loop import fit
from mnist_jax.training.start import init_state
from mnist_onnx import to_onnx

pytestmark = pytest.mark.slow
BASE = ["train", "--dataset", "digits", "--preset", "mlp-100", "--batch-size", "100"]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mnist_jax.cli", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(beginning):
            return
    pytest.fail(f"ended before {beginning}")


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, rest = process.communicate()
    return process.returncode, rest


def content(folder: Path) -> tuple[str, list[dict[str, str]], dict[str, object]]:
    """Returns the checksum of the arrays, the history and the scores, without measured times."""
    state, _ = checkpoint._read(folder / directory.CHECKPOINT)
    with (folder / directory.HISTORY).open() as file:
        history = list(csv.DictReader(file))
    for row in history:
        del row["seconds"], row["images_per_second"]
    metrics = json.loads((folder / directory.METRICS).read_text())
    scores = {name: metrics[name] for name in ("train", "validation", "test", "epochs", "onnx")}
    return param_dicts.digest(state), history, scores


def test_fit_resumes_bit_identically_from_a_state(digits: Dataset) -> None:
    config = Config(MLP((16,), ("relu",)), epochs=5)
    whole = fit(config, digits.train, digits.validation, key=jax.random.key(3))
    first = fit(
        config, digits.train, digits.validation, key=jax.random.key(3), callback=lambda r, _: r.epoch == 2
    )
    rest = fit(config, digits.train, digits.validation, state=first.state)
    assert [r.epoch for r in first.history] + [r.epoch for r in rest.history] == [1, 2, 3, 4, 5]
    assert [r.loss for r in first.history + rest.history] == [r.loss for r in whole.history]
    assert param_dicts.digest(checkpoint._flatten(rest.state)) == param_dicts.digest(
        checkpoint._flatten(whole.state)
    )
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(first.state))
    assert fit(config, digits.train, state=rest.state).history == []


def test_fit_needs_a_key_or_a_state_at_an_epochs_end(digits: Dataset) -> None:
    config = Config(MLP((16,), ("relu",)), epochs=1)
    state = init_state(config, jax.random.key(0))
    for arguments in ({}, {"key": jax.random.key(0), "state": state}):
        with pytest.raises(SpecError, match="takes either a key, to train from scratch or from params"):
            fit(config, digits.train, **arguments)
    with pytest.raises(SpecError, match="must be at an epoch's end; got one 3 steps into it"):
        fit(config, digits.train, state=state._replace(step=state.step + 3))


def test_more_epochs_on_resume_equal_a_longer_run(tmp_path: Path) -> None:
    assert main([*BASE, "--epochs", "3", "--out", str(tmp_path / "a")]) == 0
    assert main(["train", "--resume", str(tmp_path / "a"), "--epochs", "6"]) == 0
    assert main([*BASE, "--epochs", "6", "--out", str(tmp_path / "b"), "--checkpoint-every", "4"]) == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        path.name for path in (tmp_path / "b").iterdir()
    }
    assert (tmp_path / "a" / directory.MODEL).read_bytes() == (tmp_path / "b" / directory.MODEL).read_bytes()
    assert directory.read(tmp_path / "a") == directory.read(tmp_path / "b")


EVERYTHING = [
    *("--optimizer", "rmsprop:momentum=0.5", "--schedule", "warmup_cosine:warmup_fraction=0.2"),
    *("--clip-norm", "1", "--ema-decay", "0.98", "--weight-decay", "0.01", "--label-smoothing", "0.1"),
    *("--dropout", "0.1", "--deformation", "rotate=10,elastic_alpha=30", "--fgsm-epsilon", "0.05"),
]


def test_a_run_with_every_setting_resumes_and_scores_its_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*BASE, *EVERYTHING, "--epochs", "4", "--out"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    ends = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr(signals, "graceful", lambda: contextlib.nullcontext(lambda: next(ends)))
        assert main([*arguments, str(tmp_path / "halves")]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "halves"), "--epochs", "8"]) == 2
    refusal = capsys.readouterr().err
    assert "--epochs must stay 4, which the run's warmup_cosine:warmup_fraction=0.2 schedule spans" in refusal
    assert main(["train", "--resume", str(tmp_path / "halves"), "--epochs", "4"]) == 0
    assert content(tmp_path / "halves") == content(tmp_path / "whole")

    run = directory.read(tmp_path / "whole")
    assert str(run.config.optimizer) == "rmsprop:momentum=0.5"
    assert run.hyperparams == HyperParams(1e-3, 0.01, 0.1)
    assert run.config.deformation == Deformation(rotate=10, elastic_alpha=30)
    assert (run.config.dropout, run.config.fgsm_epsilon) == (0.1, 0.05)
    state, _ = checkpoint._read(tmp_path / "whole" / directory.CHECKPOINT)
    for kind in ("params", "ema_params"):
        params = {"Dense_0": {}, "Dense_1": {}}
        for layer, values in params.items():
            values |= {name: state[f"{kind}/{layer}/{name}"] for name in ("kernel", "bias")}
        model = onnx.load(tmp_path / "whole" / directory.MODEL)
        again = to_onnx(run.config.model, params)
        assert (again.graph.initializer == model.graph.initializer) == (kind == "ema_params")
    assert main(["verify", str(tmp_path / "whole")]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_cleanly_and_resume_goes_on(tmp_path: Path, number: int) -> None:
    process = start(*BASE, "--epochs", "600", "--out", str(tmp_path / "a"))
    wait_for(process, "epoch 2/")
    process.send_signal(number)
    code, rest = finish(process)
    assert code == 0
    assert "stopping after this epoch" in rest
    done = directory.read_json(tmp_path / "a", directory.METRICS)["epochs"]
    assert 2 <= done < 600
    assert f"stopped after {done} of 600 epochs; resume it: mnist-jax train --resume {tmp_path / 'a'}" in rest
    assert main(["verify", str(tmp_path / "a")]) == 0
    assert main(["train", "--resume", str(tmp_path / "a"), "--epochs", str(done + 2)]) == 0
    assert main([*BASE, "--epochs", str(done + 2), "--out", str(tmp_path / "b")]) == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_ctrl_c_twice_stops_immediately_and_resume_works(tmp_path: Path) -> None:
    process = start(*BASE, "--epochs", "100000", "--out", str(tmp_path / "a"))
    wait_for(process, "epoch 2/")
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, rest = finish(process)
    assert code == 130
    assert rest.splitlines()[-1] == "mnist-jax: interrupted"
    assert "Traceback" not in rest
    assert not (tmp_path / "a" / directory.METRICS).exists()
    done = len(session.newest(tmp_path / "a", directory.read(tmp_path / "a"), console.print_status).history)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["config"]["epochs"] = done + 1
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", str(tmp_path / "a")]) == 0
    assert main([*BASE, "--epochs", str(done + 1), "--out", str(tmp_path / "b")]) == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.nightly
@pytest.mark.parametrize("kills", [10, 25])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(kills: int, tmp_path: Path) -> None:
    """SIGKILL at random moments: while importing, compiling, training or writing."""
    moments = random.Random(0)
    folder = tmp_path / "a"
    arguments = [*BASE, "--epochs", "100000", "--out", str(folder)]  # never finishes
    begun = 0
    for index in range(kills):
        resumable = (folder / directory.CONFIG).exists()
        process = start(*(["train", "--resume", str(folder)] if resumable else arguments))
        if index % 5:  # four in five during training, the fifth during startup
            wait_for(process, "epoch ")
            begun += 1
            time.sleep(moments.uniform(0, 0.3))
        else:
            time.sleep(moments.uniform(0, 2))
        process.kill()
        finish(process)
    assert begun == kills * 4 // 5
    trained = len(session.newest(folder, directory.read(folder), console.print_status).history)
    assert trained >= begun
    length = ["--epochs", str(trained + 2)]
    assert main(["train", "--resume", str(folder), *length]) == 0
    assert main([*BASE, *length, "--out", str(tmp_path / "b")]) == 0
    assert content(folder) == content(tmp_path / "b")
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "b").iterdir()}


@pytest.fixture
def two_checkpoints(tmp_path: Path) -> Path:
    """A run of four epochs, whose previous checkpoint is of epoch 2."""
    folder = tmp_path / "run"
    assert main([*BASE, "--epochs", "2", "--out", str(folder)]) == 0
    second = (folder / directory.CHECKPOINT).read_bytes()
    assert main(["train", "--resume", str(folder), "--epochs", "4"]) == 0
    checkpoint.previous_path(folder / directory.CHECKPOINT).write_bytes(second)
    return folder


@pytest.mark.parametrize("lines", [None, 3])
def test_a_run_killed_before_its_history_was_written_gets_all_of_it(
    two_checkpoints: Path, lines: int | None
) -> None:
    expected = content(two_checkpoints)
    history = two_checkpoints / directory.HISTORY
    kept = history.read_text().splitlines(keepends=True)[:lines]
    history.unlink()
    if lines is not None:
        history.write_text("".join(kept))
    (two_checkpoints / directory.METRICS).unlink()
    assert main(["train", "--resume", str(two_checkpoints)]) == 0
    assert content(two_checkpoints) == expected


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(data)


def test_a_damaged_checkpoint_gives_way_to_the_previous_one(
    two_checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = directory.read(two_checkpoints)
    path = two_checkpoints / directory.CHECKPOINT
    assert len(session.newest(two_checkpoints, run, console.print_status).history) == 4
    flip(path)
    assert len(session.newest(two_checkpoints, run, console.print_status).history) == 2
    assert "falling back to checkpoint.previous.safetensors" in capsys.readouterr().err
    path.unlink()  # as after a crash between two renames
    assert len(session.newest(two_checkpoints, run, console.print_status).history) == 2
    flip(checkpoint.previous_path(path))
    with pytest.raises(CheckpointError, match="is damaged"):
        session.newest(two_checkpoints, run, console.print_status)
    assert main(["train", "--resume", str(two_checkpoints), "--epochs", "5"]) == 2


def test_a_checkpoint_or_data_of_another_run_is_refused(
    two_checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert main([*BASE[:3], "--preset", "mlp-50-50-sigmoid", "--epochs", "1", "--out", str(other)]) == 0
    checkpoint.previous_path(two_checkpoints / directory.CHECKPOINT).unlink()
    (two_checkpoints / directory.CHECKPOINT).write_bytes((other / directory.CHECKPOINT).read_bytes())
    capsys.readouterr()
    assert main(["train", "--resume", str(two_checkpoints), "--epochs", "9"]) == 2
    assert "is a checkpoint of another model" in capsys.readouterr().err
    config = json.loads((other / directory.CONFIG).read_text())
    config["dataset_sha256"] = "0" * 64
    (other / directory.CONFIG).write_text(json.dumps(config))
    assert main(["train", "--resume", str(other), "--epochs", "9"]) == 2
    assert "the run must use the digits it started with, sha256 000" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="must belong to one run; in the checkpoint dataset_sha256 is"):
        session.newest(other, directory.read(other), console.print_status)


def test_resume_refuses_other_settings(two_checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (
        ("--preset", "mlp-100"),
        ("--seed", "0"),
        ("--learning-rate", "0.1"),
        ("--out", "x"),
    ):
        assert main(["train", "--resume", str(two_checkpoints), option, value]) == 2
        assert (
            f"--resume takes the run's settings from its directory; leave out {option}"
            in capsys.readouterr().err
        )
    for epochs in ("4", "3"):
        assert main(["train", "--resume", str(two_checkpoints), "--epochs", epochs]) == 2
        assert "has done all its epochs (4); --epochs 5 or more trains on" in capsys.readouterr().err
    assert directory.read(two_checkpoints).config.epochs == 4
    assert (two_checkpoints / directory.METRICS).exists()


def test_two_trainings_in_one_directory_are_one_too_many(two_checkpoints: Path, tmp_path: Path) -> None:
    taken_twice = pytest.raises(RunError, match="is in use by another process")
    with locking.reopen_run_dir(two_checkpoints), taken_twice, locking.reopen_run_dir(two_checkpoints):
        pytest.fail("taken twice")
    assert not (two_checkpoints / locking.LOCK).exists()
    process = start(*BASE, "--epochs", "100000", "--out", str(tmp_path / "a"))
    wait_for(process, "epoch 2/")
    code, message = finish(start("train", "--resume", str(tmp_path / "a")))
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    assert code == 2
    assert "is in use by another process" in message
