"""Errors on the command line: one line, exit code 2, no data lost."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from mnist_jax.cli import main
from mnist_jax.runs import directory, locking
from mnist_jax.runs.sweeps import sweep_session
from mnist_jax.training import checkpoint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--preset", "mlp"], "preset must be one of mlp-100, .*; got 'mlp'"),
        (["train", "--dataset", "emnist"], "data set must be one of mnist, .*; got 'emnist'"),
        (["train", "--epochs", "0"], "epochs must be a whole number of at least 1; got 0"),
        (["train", "--epochs", "99999999999"], "epochs must be a whole number of at most 2,147,483,647; got"),
        (
            ["train", "--dataset", "digits", "--epochs", "2000000000", "--schedule", "cosine"],
            "epochs times steps in one must be a whole number of at most 2,147,483,647; got 86000000000",
        ),
        (["train", "--epochs", "1.5"], "--epochs.*valid integer.*; got '1.5'; see `mnist-jax train --help`"),
        (["train", "mnist"], r"extra argument\(s\) \(mnist\); see `mnist-jax train --help`"),
        (["train", "--lr", "0.1"], "No such option: --lr.*; see `mnist-jax train --help`"),
        (["train", "--resume", "nowhere"], "nowhere must be a run directory, .*; it does not exist"),
        (["evaluate", __file__], "must be a run directory, .*; it is a file"),
        (["evaluate", "/"], "/ must be a run directory, .*; it has no config.json"),
        (
            ["predict", "seven.png"],
            r"predict needs, after the model \(seven.png\), pictures or --stdin; got n",
        ),
        (["train", "--batch-size", "-3"], "batch size must be a whole number of at least 1; got -3"),
        (["train", "--learning-rate", "nan"], "learning rate must be a number, above 1e-37; got nan"),
        (["train", "--learning-rate", "-1"], "learning rate must be a number, above 1e-37; got -1"),
        (["train", "--weight-decay", "-1"], "weight decay must be a number, at least 0; got -1"),
        (["train", "--learning-rate", "1e-60"], "learning rate must be a number, above 1e-37; got 1e-60"),
        (["train", "--optimizer", "adam:eps=0"], "adam's eps must be .*, above 1e-37; got 0"),
        (["train", "--optimizer", "adams"], "optimizer must be one of adam, .*; got 'adams'"),
        (["train", "--optimizer", "sgd:b1=0.5"], "sgd must have options among momentum, nesterov; got 'b1'"),
        (
            ["train", "--schedule", "cosine:end_factor=2"],
            "cosine's end_factor must be a number below 1.*; got 2.0",
        ),
        (
            ["train", "--dataset", "digits", "--hidden", "30000,17000"],
            "at most 530,000,000 parameters to fit an ONNX file of 2 GB; got 533,737,010; use smaller",
        ),
        (
            ["sweep", "--dataset", "digits", "--hidden", "30000,17000", "--learning-rate", "0.1,0.2"],
            "at most 530,000,000 parameters to fit an ONNX file of 2 GB; got 533,737,010; use smaller",
        ),
        (
            ["tune", "--dataset", "digits", "--hidden", "30000,17000", "--trials", "1"],
            "at most 530,000,000 parameters to fit an ONNX file of 2 GB; got 533,737,010; use smaller",
        ),
        (["train", "--clip-norm", "0"], "clip norm must be a number, above 0; got 0.0"),
        (["train", "--ema-decay", "1"], "EMA decay must be a number below 1, above 0; got 1.0"),
        (["train", "--fgsm-epsilon", "1"], "fgsm_epsilon must be a number below 1, at least 0; got 1.0"),
        (["train", "--label-smoothing", "1"], "label smoothing must be a number below 1"),
        (
            ["train", "--validation-fraction", "1", "--dataset", "digits"],
            "validation fraction must be a number below 1, at least 0",
        ),
        (["train", "--seed", "-1"], "seed must be a whole number from 0 to 4294967295; got -1"),
        (
            ["train", "--dataset", "digits", "--batch-size", "5000"],
            r"batch size \(5,000\) must be at most .* \(1,350\)",
        ),
        (["train", "--data-dir", "nowhere"], "the data folder must be a directory .* it does not exist"),
        (["train", "--dataset", "digits", "--out", "/proc/run"], "/proc/run: No such file or directory"),
        (["train", "--epoch", "3"], "No such option.*--epoch"),
        (["trian"], "No such command 'trian'.*train"),
        (["evaluate"], "Missing argument 'RUN_DIR'; see `mnist-jax evaluate --help`$"),
        (["compare"], "Missing argument 'RUN_DIR...'; see `mnist-jax compare --help`$"),
        (["predict"], r"Missing argument 'RUN_DIR\|FILE.onnx'; see `mnist-jax predict --help`$"),
        (["train", "--seed"], "Option '--seed' requires an argument$"),
        (["train", "--report=1"], "Option '--report' does not take a value$"),
        (["evaluate", "nowhere"], "nowhere must be a run directory, written by `mnist-jax train`"),
        (["export", "nowhere"], "nowhere must be a run directory"),
        (["verify", "nowhere.onnx"], "nowhere.onnx must be a run directory"),
        (["reproduce", "--seeds", "0"], "seeds must be a whole number of at least 1; got 0"),
        (["reproduce", "--preset", "x"], "preset must be one of .*; got 'x'"),
        (["reproduce", "--out", "table.txt"], "--out must name a .json or a .md file; got table.txt"),
        (["reproduce", "--out", "no/table.md"], "in a directory that exists; got no/table.md"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err), printed.err
    lines = [line for line in printed.err.splitlines() if not line.startswith("mlp-128-64 on")]
    assert len(lines) == 1
    assert lines[0].startswith("mnist-jax: ")
    assert not re.search(r"[.:;,]\s*;", lines[0])  # badly joined messages
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(
    ("reason", "shown"), [("Unable to allocate 9 GiB.", "Unable to allocate 9 GiB"), ("", "no memory left")]
)
def test_too_little_memory_is_one_line(
    reason: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(value: object) -> None:
        raise MemoryError(reason)

    monkeypatch.setattr("mnist_jax.cli.console.print_json", full)
    assert main(["presets", "--json"]) == 2
    expected = (
        f"mnist-jax: data and computation must fit in memory; {shown}; reduce the batch size or the input\n"
    )
    assert capsys.readouterr().err == expected


def test_early_checks_run_before_jax_is_imported(tmp_path: Path) -> None:
    """Importing JAX takes seconds; a wrong name must be reported before that."""
    mistakes = [
        ["train", "--dataset", "emnist"],
        ["sweep", "--dataset", "emnist"],
        ["tune", "--dataset", "emnist"],
        ["evaluate", "run", "--dataset", "emnist"],
        *([name, "run", "--data-dir", "nowhere"] for name in ("verify", "report", "web", "serve", "export")),
        ["train", "--data-dir", "nowhere"],
        ["reproduce", "--data-dir", "nowhere"],
        ["train", "--preset", "mlp"],
        ["train", "--validation-fraction", "1"],
        ["sweep", "--validation-fraction", "1"],
        ["tune", "--validation-fraction", "1"],
        ["train", "--out", "full"],
        ["sweep", "--out", "full"],
        ["tune", "--out", "full"],
        ["export", "run", "--precision", "int4"],
        ["export", "run", "--input", "int8"],
        ["export", "run", "--output", "classes"],
        ["ensemble", "a", "b", "--out", "ensemble.txt"],
        ["compare", "a", "a"],
        ["verify", "run", "--runtime", "tensorrt"],
        ["predict", "model.onnx", "seven.png", "--input-range", "1..1"],
        ["predict", "model.onnx", "seven.png", "--save-prepared", "seven.jpg"],
        ["serve", "run", "--port", "99999"],
        ["reproduce", "--preset", "mlp"],
    ]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("")
    code = f"""
import sys
from mnist_jax.cli import main
for arguments in {mistakes!r}:
    assert main(arguments) == 2, arguments
    assert not {{"jax", "sklearn", "matplotlib"}} & set(sys.modules), arguments
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(mistakes), done.stderr


def test_damaged_files_of_a_run_are_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for path in run_dir.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    data = bytearray((copy / directory.CHECKPOINT).read_bytes())
    data[-1] ^= 1
    (copy / directory.CHECKPOINT).write_bytes(data)
    for command in ("evaluate", "export", "verify"):
        assert main([command, str(copy)]) == 2
        assert "is damaged: its content must have sha256" in capsys.readouterr().err
    model = (run_dir / directory.MODEL).read_bytes()
    for damaged in (model[:1000], b"not ONNX", b""):
        path = tmp_path / "model.onnx"
        path.write_bytes(damaged)
        assert main(["verify", str(path), "--run", str(run_dir)]) == 2
        assert "must be an ONNX file" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none.onnx"), "--run", str(run_dir)]) == 2
    assert "none.onnx must be an ONNX file; it cannot be read: No such file" in capsys.readouterr().err


def test_a_run_directory_is_never_overwritten(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert main(["train", "--dataset", "digits", "--epochs", "1", "--out", str(run_dir)]) == 2
    assert "a run needs a new or an empty directory" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


def test_divergence_ends_with_1_and_keeps_the_last_finite_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--dataset", "digits", "--learning-rate", "1e38", "--out", str(out)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "training diverged in epoch 1" in error
    assert f"the last finite state is in {out}" in error
    params, _ = checkpoint.load_params(out / directory.CHECKPOINT)
    assert np.isfinite(params["Dense_0"]["kernel"]).all()
    assert not (out / directory.METRICS).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "{cli} presets",
        "{cli} presets --json",
        "{cli} --help",
        "{cli} --version",
        "{cli} evaluate {run}",
        "{cli} verify --json {run}",
        "{cli} train --nope 2>&1",
        "{cli} train --dataset digits --epochs 1 --out {new} 2>&1",
    ],
)
def test_a_broken_pipe_is_exit_code_141(run_dir: Path, tmp_path: Path, line: str) -> None:
    """The exit code is that of a process killed by SIGPIPE, without a message or partial files."""
    reader, writer = os.pipe()
    os.close(reader)
    cli = f"{sys.executable} -m mnist_jax.cli"
    command = line.format(cli=cli, run=run_dir, new=tmp_path / "new")
    done = subprocess.run(["sh", "-c", command], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    assert not (tmp_path / "new").exists()


def test_nan_scores_end_the_run_like_divergence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--dataset", "digits", "--epochs", "1", "--batch-size", "1350"]
    for rate in ("1e15", "1e20"):
        assert main([*arguments, "--learning-rate", rate, "--out", str(tmp_path / rate)]) == 1
        assert "the last finite state is in" in capsys.readouterr().err
    assert main([*arguments, "--learning-rate", "1e39", "--out", str(tmp_path / "x")]) == 2
    assert "learning rate must be a number below 3.4e+38, above 1e-37; got 1e+39" in capsys.readouterr().err


def test_names_are_printed_without_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "[red][/a] :smile:"
    assert main(["train", "--dataset", "digits", "--epochs", "1", "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert main(["evaluate", str(out)]) == 0
    assert str(out) in capsys.readouterr().out


def test_a_config_that_does_not_match_the_checkpoint_is_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    original = json.loads((copy / directory.CONFIG).read_text())
    for change, message in (
        ({"seed": 4}, "in the checkpoint seed is 0; got 4"),
        (
            {"hyperparams": {**original["hyperparams"], "weight_decay": 0.5}},
            "hyperparams.weight_decay is 0.0; got 0.5",
        ),
        (
            {
                "config": {
                    **original["config"],
                    "model": {**original["config"]["model"], "activations": ["tanh"]},
                }
            },
            "config.model.activations is ['relu']; got ['tanh']",
        ),
        ({"dataset_sha256": "0"}, "in the checkpoint dataset_sha256 is"),
        (
            {"hyperparams": {"learning_rate": 0.1}},
            "hyperparams must have the fields learning_rate, weight_decay",
        ),
        ({"dataset": 5}, "dataset must be str; got 5"),
        ({"seed": True}, "seed must be int; got True"),
        (
            {"hyperparams": {**original["hyperparams"], "learning_rate": 10**400}},
            "learning rate must be a number, above",
        ),
        ({"hyperparams": {**original["hyperparams"], "learning_rate": "0.1"}}, "above 1e-37; got '0.1'"),
    ):
        (copy / directory.CONFIG).write_text(json.dumps({**original, **change}))
        for command in ("evaluate", "export", "verify"):
            assert main([command, str(copy)]) == 2
            assert message in capsys.readouterr().err
    (copy / directory.CONFIG).write_text("[" * 100_000)
    assert main(["evaluate", str(copy)]) == 2
    assert "config.json is damaged" in capsys.readouterr().err


def test_verify_refuses_labels_of_other_classes(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(run_dir / "model.onnx")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, facts | {"labels": json.dumps(list("1023456789"))})
    onnx.save(model, tmp_path / "mutant.onnx")
    assert main(["verify", str(tmp_path / "mutant.onnx"), "--run", str(run_dir)]) == 2
    assert "labels in its metadata must be ['0', '1'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "PYTHONIOENCODING=ascii"])
def test_closed_or_narrow_streams_are_no_error(run_dir: Path, closed: str) -> None:
    command = f"{sys.executable} -m mnist_jax.cli evaluate {run_dir}"
    line = f"{closed} {command}" if "=" in closed else f"{command} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_default_directory_is_always_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    names = []
    for _ in range(3):
        names.append(locking.default_run_dir("a").name)
        locking.default_run_dir("a").mkdir(parents=True)
    assert names == ["a-now", "a-now-2", "a-now-3"]


@pytest.mark.slow
def test_an_unusable_cache_is_silent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mnist_jax.cli",
            "train",
            "--dataset",
            "digits",
            "--epochs",
            "1",
            "--out",
            "run",
        ],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 4, done.stderr


def run_cli(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command line in a shell."""
    return subprocess.run(
        ["sh", "-c", line.format(cli=f"{sys.executable} -m mnist_jax.cli")],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_partial_run(tmp_path: Path) -> None:
    """Files are limited to 100 kB, so the checkpoint of 950 kB cannot be written."""
    train = "{cli} train --dataset digits --epochs 2 --out run"
    done = run_cli(f"ulimit -f 200; {train}", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("mnist-jax: run/checkpoint.safetensors cannot be written")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_full_disk_on_resume_keeps_what_was_there(tmp_path: Path) -> None:
    assert run_cli("{cli} train --dataset digits --epochs 1 --out run", tmp_path).returncode == 0
    before = contents(tmp_path / "run")
    done = run_cli("ulimit -f 200; {cli} train --resume run --epochs 2", tmp_path)
    assert done.returncode == 2
    after = contents(tmp_path / "run")
    expected = (
        json.loads(after.pop(directory.CONFIG))["config"]["epochs"],
        json.loads(before.pop(directory.CONFIG)),
    )
    assert expected[0] == expected[1]["config"]["epochs"] + 1
    assert after == before
    assert run_cli("{cli} train --resume run --epochs 2", tmp_path).returncode == 0


@pytest.mark.slow
def test_no_home_is_no_error(tmp_path: Path) -> None:
    line = "unset HOME XDG_CACHE_HOME; {cli} train --dataset digits --epochs 1 --out run"
    assert run_cli(line, tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path)).returncode == 0


def test_too_large_arrays_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_much(*_: object) -> None:
        raise MemoryError("Unable to allocate 7.45 GiB")

    monkeypatch.setattr(sweep_session, "_train", too_much)
    words = ["sweep", "--dataset", "digits", "--seeds", "2000000000", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "must fit in memory; Unable to allocate 7.45 GiB; reduce the batch size or the input"
    )
    assert not list(tmp_path.iterdir())
