"""Writing commands killed at any moment: no partial files, no wrong results, and they can be resumed."""

import contextlib
import csv
import json
import random
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import pytest
from helpers.results import results_of

from mnist_jax._utils import param_dicts
from mnist_jax._utils.atomic_io import TEMPORARY
from mnist_jax.cli import main
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import RunError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.runs import directory, locking
from mnist_jax.training import checkpoint

# A command that kills itself just before its n-th change in a directory.
PROGRAM = """
import os, signal, sys

folder, left = sys.argv[1], int(sys.argv[2])

def watch(event, arguments):
    global left
    changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
    changes |= event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    if changes and str(arguments[0]).startswith(folder):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
from mnist_jax.cli import main
code = main(sys.argv[3:])
print(int(sys.argv[2]) - left, file=sys.stderr)
sys.exit(code)
"""
NEVER = 10**9
TRAIN = ["train", "--dataset", "digits", "--preset", "mlp-100", "--epochs", "3"]


def start(folder: Path, words: list[str], at: int = NEVER) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(at), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, words: list[str]) -> int:
    """Runs a command, or what its error message suggests; returns the number of its file changes."""
    process = start(folder, words)
    _, stderr = process.communicate()
    *lines, changes = stderr.splitlines()
    if process.returncode == 0:
        return int(changes)
    assert process.returncode == 2, stderr
    refusals = [line for line in lines if line.startswith("mnist-jax: ")]
    assert len(refusals) == 1, stderr
    if "has done all its epochs" in refusals[0] and "--report" not in words:
        return int(changes)
    advised = re.search(r"mnist-jax ((train --resume|report) .+)$", refusals[0])
    assert advised, stderr
    again = shlex.split(advised[1])
    return finish(folder, again + ["--report"] * ("--report" in words and again[0] == "train"))


def files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def check_positive_int(path: Path, scratch: Path) -> None:
    """Checks that a file is complete."""
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".csv":
        list(csv.DictReader(path.read_text().splitlines(), strict=True))
    elif path.suffix == ".onnx":
        onnxruntime.InferenceSession(path)
    elif path.suffix == ".safetensors":
        checkpoint._read(path)
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".db":
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, scratch)
        with contextlib.closing(sqlite3.connect(scratch / path.name)) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert file.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'").fetchone()


def check_scores(folder: Path, digits: Dataset, scratch: Path) -> None:
    """Checks that reported scores belong to the run's current network."""
    run = directory.read(folder)
    params, _ = checkpoint.load_params(folder / directory.CHECKPOINT)
    confusion = evaluate(run.config.model, params, digits.test).confusion
    accuracy = float(confusion.trace()) / int(confusion.sum())
    with contextlib.suppress(RunError):  # there are none
        assert results_of(folder).accuracy == accuracy
    assert main(["export", str(folder), "--out", str(scratch / "check.onnx")]) == 0
    shown = json.loads((scratch / "check.json").read_text()).get("test_accuracy")
    assert shown is None or float(shown) == accuracy


def check(folder: Path, digits: Dataset, scratch: Path) -> None:
    """Checks that a directory holds no partial or wrong files after a kill."""
    for path in files_in(folder):
        if not TEMPORARY.fullmatch(path.name):
            check_positive_int(path, scratch)
    for path in folder.rglob(directory.CHECKPOINT):
        check_scores(path.parent, digits, scratch)


def content(folder: Path) -> dict[str, object]:
    """Returns a directory's content without measured times and files that contain them."""
    result: dict[str, object] = {}
    for path in files_in(folder):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors":
            result[name] = param_dicts.digest(checkpoint._read(path)[0])
        elif path.name in (directory.METRICS, "sweep.json", "table.json"):
            values = json.loads(path.read_text())
            rows = [row["accuracies"] for row in values.get("rows", [])]
            means = [row["mean"] for row in values.get("presets", [])]
            result[name] = [values.get(key) for key in ("train", "test", "onnx", "best")] + [rows, means]
        elif path.suffix in (".onnx", ".bin", ".mjs", ".wasm", ".js") or path.name == directory.CONFIG:
            result[name] = path.read_bytes()
        else:
            result[name] = None
    return result


class Command(NamedTuple):
    """A command to kill: its arguments for an output directory, and whether its result is deterministic."""

    words: Callable[[Path], list[str]]
    same: bool = True


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two finished runs; read-only."""
    folders = [str(tmp_path_factory.mktemp("pair") / name) for name in "ab"]
    for seed, folder in enumerate(folders):
        assert main([*TRAIN, "--seed", str(seed), "--out", folder]) == 0
    return folders


def commands(pair: list[str]) -> dict[str, Command]:
    sweep = ["sweep", *TRAIN[1:5], "--epochs", "1", "--seeds", "2", "--learning-rate", "1e-3,1e-2"]
    tune = ["tune", "--dataset", "digits", "--epochs", "1", "--trials", "2"]
    tables = ["reproduce", "--preset", "mlp-50-50-sigmoid", "--seeds", "1"]
    return {
        "train": Command(lambda out: [*TRAIN, "--out", f"{out}/run"]),
        "resume": Command(lambda out: ["train", "--resume", f"{out}/run", "--epochs", "5"]),
        "train --report": Command(lambda out: [*TRAIN, "--report", "--out", f"{out}/run"]),
        "sweep": Command(lambda out: [*sweep, "--out", f"{out}/run"]),
        # An interrupted trial is repeated with other values.
        "tune": Command(lambda out: [*tune, "--out", f"{out}/tuned"], same=False),
        "export": Command(lambda out: ["export", pair[0], "--out", f"{out}/a.onnx"]),
        "ensemble": Command(lambda out: ["ensemble", *pair, "--out", f"{out}/both.onnx"]),
        "web": Command(lambda out: ["web", pair[0], "--out", f"{out}/site"]),
        "report": Command(lambda out: ["report", pair[0], "--out", f"{out}/report.html"]),
        "compare": Command(lambda out: ["compare", *pair, "--out", f"{out}/compare.html"]),
        "reproduce": Command(lambda out: [*tables, "--out", f"{out}/table.md", "--out", f"{out}/table.json"]),
    }


def fresh(folder: Path, name: str, pair: list[str]) -> None:
    """Prepares the directory before the command."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if name == "resume":
        shutil.copytree(pair[0], folder / "run")


def check_end(folder: Path, expected: dict[str, object], same: bool) -> None:
    names = [path.name for path in files_in(folder)]
    assert not [name for name in names if TEMPORARY.fullmatch(name) or name == locking.LOCK]
    result = content(folder)
    assert result.keys() == expected.keys()
    assert not same or {name: result[name] for name in result if result[name] != expected[name]} == {}


@pytest.mark.slow
def test_an_export_killed_between_its_writes_is_repaired_by_the_next(
    run_dir: Path, digits: Dataset, tmp_path: Path
) -> None:
    """Kills before each of the two renames; the long test below kills everywhere."""
    folder, scratch = tmp_path / "work", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    words = commands([str(run_dir)])["export"].words(folder)
    assert main(words) == 0
    expected = content(folder)
    for at in (2, 6):  # each file is opened and renamed; the second time leftovers are removed first
        process = start(folder, words, at)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        check(folder, digits, scratch)
        assert at > 2 or any(TEMPORARY.fullmatch(path.name) for path in files_in(folder))
    assert main(words) == 0
    check_end(folder, expected, same=True)


@pytest.mark.nightly
@pytest.mark.parametrize("name", commands([]))
def test_a_command_killed_at_random_moments_goes_on(
    name: str, pair: list[str], digits: Dataset, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Kills alternately before a file change and at a random time; every third call runs to its end."""
    if name == "web":
        request.getfixturevalue("page_files")
        home = request.getfixturevalue("home_with_kept_files")
        request.getfixturevalue("monkeypatch").setenv("XDG_CACHE_HOME", str(home))
    if name == "reproduce":
        data = request.getfixturevalue("mnist_dir")
        request.getfixturevalue("monkeypatch").setenv("MNIST_JAX_DATA_DIR", str(data))
    if name == "tune":
        pytest.importorskip("optuna", reason="Optuna: the extra `tune`")
    command, moments = commands(pair)[name], random.Random(name)
    folder, scratch = tmp_path / "work", tmp_path / "scratch"
    scratch.mkdir()
    fresh(folder, name, pair)
    words = command.words(folder)
    finish(folder, words)  # compiles
    expected = content(folder)
    fresh(folder, name, pair)
    began = time.perf_counter()
    changes = finish(folder, words)
    seconds = time.perf_counter() - began
    check_end(folder, expected, command.same)
    fresh(folder, name, pair)
    killed = 0
    for index in range(12):
        again = words
        if name in ("train", "train --report") and (folder / "run" / directory.CONFIG).exists():
            again = ["train", "--resume", f"{folder}/run", *(["--report"] * ("--report" in words))]
        if index % 2:
            process = start(folder, again)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, seconds))
            process.kill()
        else:
            process = start(folder, again, moments.randint(1, changes))
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        check(folder, digits, scratch)
        if index % 3 == 2:
            finish(folder, words)
            check(folder, digits, scratch)
            check_end(folder, expected, command.same)
            fresh(folder, name, pair)
    assert killed >= 6
