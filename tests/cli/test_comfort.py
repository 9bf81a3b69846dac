"""What makes the command line pleasant: lists of runs, repeats, progress, suggestions."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_jax.cli import main, progress
from mnist_jax.training import checkpoint
from mnist_jax.training.records import EpochRecord

TRAIN = ["train", "--dataset", "digits", "--epochs", "2", "--hidden", "9"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert main([*TRAIN, "--out", str(folder), "--early-stopping", "5", "--keep-best", "--seed", "3"]) == 0
    return folder


def test_the_time_is_told_in_parts(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if line.startswith("time ")]
    names = re.findall(r"(loading|compiling|training|scoring|proving) \d+\.\d", line)
    assert names == ["loading", "compiling", "training", "scoring", "proving"]
    assert printed.err.splitlines()[-2:] == ["scoring the network", "comparing its ONNX file with JAX"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    parts = sum(metrics[f"seconds_{name}"] for name in names)
    assert 0.5 * metrics["seconds"] < parts <= metrics["seconds"] + 0.01


def test_runs_are_listed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(run, folder / "deep" / "er" / "copy")
    shutil.copytree(run, folder / "unfinished")
    (folder / "unfinished" / "metrics.json").unlink()
    shutil.copytree(run, folder / "damaged")
    (folder / "damaged" / "config.json").write_text("{")
    (folder / "notes").mkdir()
    assert main(["runs", str(folder)]) == 0
    printed, errors = capsys.readouterr()
    assert re.search(r"deep/er/copy +digits +784-9-10 \(relu, softmax\) +\d+\.\d\d % +2 ", printed)
    assert re.search(r"unfinished +digits +784-9-10 \(relu, softmax\) +- ", printed)
    assert "config.json is damaged" in errors
    assert "notes" not in printed
    assert main(["runs", str(folder), "--json"]) == 0
    rows = {Path(row["run"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert rows["copy"]["accuracy"] == json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
    assert rows["unfinished"]["accuracy"] is None
    assert main(["runs", str(folder / "notes")]) == 0
    assert "has no runs; `mnist-jax train` makes one" in capsys.readouterr().err
    assert main(["runs", str(folder / "none")]) == 2
    assert "must be a directory with runs; it does not exist" in capsys.readouterr().err


def test_a_config_repeats_its_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(run / "config.json", tmp_path / "renamed.json")
    for source in (run, run / "config.json", tmp_path / "renamed.json"):
        again = tmp_path / "again"
        assert main(["train", "--config", str(source), "--out", str(again)]) == 0
        params, _ = checkpoint.load_params(again / "checkpoint.safetensors")
        expected, _ = checkpoint.load_params(run / "checkpoint.safetensors")
        assert np.array_equal(params["Dense_1"]["kernel"], expected["Dense_1"]["kernel"])
        shutil.rmtree(again)
    for arguments, message in (
        (["--config", str(run), "--epochs", "3"], "--config takes the run's settings from its config"),
        (["--config", str(run), "--preset", "mlp-100"], "leave out --preset"),
        (["--config", str(tmp_path / "none.json")], "must be a run directory"),
        (["--resume", str(run), "--config", str(run)], "leave out --config"),
    ):
        capsys.readouterr()
        assert (
            main(
                ["train", *arguments, "--out", str(tmp_path / "never")][
                    : None if "--resume" not in arguments else -2
                ]
            )
            == 2
        )
        assert message in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("--hiden", "No such option: --hiden; did you mean --hidden?; see"),
        ("--epoch", "No such option: --epoch; did you mean --epochs?; see"),
        ("--bogus", "No such option: --bogus; see"),
        ("--lr", "No such option: --lr; see"),
    ],
)
def test_suggestions_are_near(written: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", written, "1"]) == 2
    assert expected in capsys.readouterr().err


def test_the_platform_is_chosen_in_a_process_of_its_own(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    for platform, code, message in (
        ("cpu", 0, "on cpu: "),
        ("tpu", 2, "JAX must be able to start; "),
        ("npu", 2, "platform must be one of cpu, gpu, tpu; got 'npu'"),
    ):
        command = [*TRAIN, "--platform", platform, "--out", str(tmp_path / platform)]
        done = subprocess.run(
            [sys.executable, "-m", "mnist_jax.cli", *command],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert message in done.stdout + done.stderr
    assert not (tmp_path / "tpu").exists()


def test_shells_complete_the_commands() -> None:
    environment = {
        **os.environ,
        "_MNIST_JAX_COMPLETE": "complete_bash",
        "COMP_WORDS": "mnist-jax tr",
        "COMP_CWORD": "1",
    }
    program = Path(sys.executable).parent / "mnist-jax"
    done = subprocess.run([program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["train"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_epochs_stay_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.watch(3) as shown:
        for epoch in (1, 2, 3):
            assert not shown.on_epoch(EpochRecord(epoch, 0.5, 0.9, 0.4, 0.95, 1.0, 100.0))
        shown.say("scoring the network")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3: loss 0.5000, accuracy 90.00 %, validation 95.00 %, 1.00 s" in text
    assert "left" in text
    assert "scoring the network" in text
