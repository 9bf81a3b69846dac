"""Other runtimes: those that are quickly installed, asked for every preset in every form."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import pytest
from conftest import KEPT, ROOT
from mutants import edit
from specimens import NETWORKS

from mnist_jax import machine
from mnist_jax.cli import main
from mnist_jax.datasets import Dataset
from mnist_jax.errors import ModelError, RuntimeUnavailableError, SpecError
from mnist_jax.models import init
from mnist_jax.networks import MLP, Spec
from mnist_onnx import environments, runtimes, to_onnx
from mnist_onnx.questions import Question, question
from mnist_onnx.runtimes import RUNTIMES, ask, examine

FORMS = [(i, o) for i in ("uint8", "float32") for o in ("probabilities", "logits")]
OF_EACH_KIND = ("mlp-50-50-sigmoid", "cnn-32-64", "ensemble")
QUICK = ("onnxruntime", "onnxruntime-1.15", "onnx-reference", "opencv", "openvino")


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "cache_folder", lambda: KEPT)


@pytest.fixture(scope="module")
def available() -> Callable[[str], None]:
    """Skips where a runtime can't be installed; fails in CI, where it must be."""

    def check(name: str) -> None:
        try:
            environments.environment(name, RUNTIMES[name])
        except RuntimeUnavailableError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))

    return check


def written(
    folder: Path, spec: Spec, images: np.ndarray, input_: str, output: str
) -> tuple[Path, onnx.ModelProto, Question]:
    """A file, and what to ask it."""
    params = init(spec, jax.random.key(0))
    model = to_onnx(spec, params, input=input_, output=output)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path, model, question(spec, params, path.read_bytes(), images)


def few(asked: Question) -> Question:
    """The first five images and the last ten pictures of noise, for a runtime that takes its time."""
    rows = np.r_[:5, -10:0]
    return Question(*(field[rows] for field in asked[:5]), 5)


def others_take_long(name: str) -> Any:
    quick = name in (*QUICK, *OF_EACH_KIND)
    return pytest.param(name, marks=[] if quick else [pytest.mark.slow, pytest.mark.long])


@pytest.mark.parametrize("name", [others_take_long(name) for name in RUNTIMES])
@pytest.mark.parametrize("network", [others_take_long(name) for name in NETWORKS])
def test_every_form_of_every_network_equals_jax(
    name: str, network: str, tmp_path: Path, digits: Dataset, available: Callable[[str], None]
) -> None:
    available(name)

    def one(form: tuple[str, str]) -> None:
        folder = tmp_path / "-".join(form)
        folder.mkdir()
        path, _, asked = written(folder, NETWORKS[network], digits.test.images, *form)
        if name == "onnx-reference" and network in ("cnn-32-64", "ensemble"):
            asked = few(asked)
        found = examine(name, path, asked)
        assert found.passed, (form, found)
        assert (found.same_answers, found.disagreements) == (asked.n, 0)
        assert found.n + found.noise == len(asked.pixels)
        assert found.max_abs_difference is not None
        assert 0 <= found.max_abs_difference <= asked.limit.max()
        assert found.seconds is not None
        assert found.seconds > 0
        assert found.version[0].isdigit()

    with ThreadPoolExecutor(2) as pool:  # each is a process of its own
        list(pool.map(one, FORMS))


def test_a_wrong_file_fails_and_says_by_how_much(tmp_path: Path, digits: Dataset) -> None:
    path, model, asked = written(tmp_path, MLP((20,), ("relu",)), digits.test.images, "uint8", "logits")
    path.write_bytes(edit(model, "Dense_1.bias", lambda bias: bias + np.float32(0.05)).SerializeToString())
    found = examine("onnx-reference", path, asked)
    assert (found.passed, found.loads, found.dynamic_batch) == (False, True, True)
    assert re.fullmatch(r"\d+ of 1,577 answers differ; the numbers by up to 5\.0e-02", found.reason)
    not_numbers = edit(model, "Dense_1.bias", lambda bias: bias * np.float32(np.nan))
    path.write_bytes(not_numbers.SerializeToString())
    found = examine("onnx-reference", path, asked)
    assert (found.passed, found.same_answers, found.disagreements) == (False, 0, 1577)


def test_a_file_that_a_runtime_cannot_run_is_a_reason(tmp_path: Path, digits: Dataset) -> None:
    path, model, asked = written(tmp_path, MLP((), ()), digits.test.images, "uint8", "logits")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path.write_bytes(model.SerializeToString())
    found = examine("onnxruntime", path, asked)
    assert (found.passed, found.loads, found.dynamic_batch, found.version) == (False, True, False, "")
    assert re.match(r"onnxruntime cannot run the file; it says: .*INVALID_ARGUMENT", found.reason)
    path.write_bytes(b"no model")
    found = examine("onnxruntime", path, asked)
    assert (found.loads, found.max_abs_difference) == (False, None)
    with pytest.raises(ModelError, match="onnxruntime cannot run the file; it says: "):
        ask("onnxruntime", path, asked.pixels)


def test_what_cannot_be_installed_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environments, "cache_folder", lambda: tmp_path)
    impossible = RUNTIMES["onnxruntime"]._replace(pip=("no-such-package-of-ours==99",))
    monkeypatch.setitem(runtimes.RUNTIMES, "onnxruntime", impossible)
    capsys.readouterr()
    assert main(["verify", str(run_dir), "--runtime", "onnxruntime"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("mnist-jax: onnxruntime cannot be installed here; python says: ERROR: ")
    assert message.count("\n") == 1
    monkeypatch.setenv("PATH", "")
    assert main(["verify", str(run_dir), "--runtime", "onnxruntime-node"]) == 2
    assert "needs node, which is not on this machine; install it" in capsys.readouterr().err
    assert main(["verify", str(run_dir), "--runtime", "chromium"]) == 2
    assert "needs chromium" in capsys.readouterr().err
    with pytest.raises(SpecError, match=r"runtime must be one of .*; got 'keras'"):
        ask("keras", tmp_path, np.zeros((1, 28, 28), np.uint8))


def test_verify_asks_another_runtime(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["verify", str(run_dir), "--runtime", "onnxruntime"]) == 0
    assert re.search(r"in onnxruntime [\d.]+ equals JAX: 297 images", capsys.readouterr().out)
    assert main(["verify", str(run_dir), "--runtime", "onnxruntime", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dynamic_batch"] is True


def test_the_table_is_what_was_found(run_dir: Path, tmp_path: Path) -> None:
    program = ROOT / "export" / "runtimes" / "conformance.py"
    names = ["onnxruntime", "onnx-reference"]
    options = [part for name in names for part in ("--runtime", name)]
    command = [sys.executable, str(program), str(run_dir), *options, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "conformance.json").read_text())
    assert [row["runtime"] for row in rows] == names * 7
    exact = [row for row in rows if row["precision"] == "float32"]
    assert [(row["input"], row["output"]) for row in exact[::2]] == FORMS
    assert all(row["passed"] and row["ran"] and row["same_answers"] == 297 for row in exact)
    table, _, _, smaller, _ = (tmp_path / "conformance.md").read_text().split("\n\n")
    assert table.count("| 4 of 4 | 4 of 4 | 297 of 297 |") == 2
    assert table.count("equals JAX |") == 2
    assert "| onnxruntime | 297 of 297 | 297 of 297 | 29" in smaller
    assert "| onnx-reference | 297 of 297 | refuses | refuses |" in smaller  # it has no old DequantizeLinear
    where = rf"float32, float16, int8, int8-static: [\d-]+, {re.escape(machine.processor())}; jax "
    assert re.search(where, (tmp_path / "conformance.md").read_text())
    # One that is asked again takes its old rows' place; the others stay.
    again = [*command[:3], "--runtime", names[0], "--precision", "int8-static", "--out", str(tmp_path)]
    assert subprocess.run(again, capture_output=True, check=False).returncode == 0
    rows = json.loads((tmp_path / "conformance.json").read_text())
    assert (len(rows), {row["runtime"] for row in rows}) == (14, set(names))
    assert all(row["measured"] for row in rows)
    (tmp_path / "conformance.json").write_text("{")
    assert subprocess.run(again, capture_output=True, check=False).returncode == 2

    bad = subprocess.run([*command[:2], str(tmp_path)], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert re.fullmatch(r"mnist-jax: .* must be a run directory.*\n", bad.stderr)


def test_what_could_not_be_asked_is_said_in_the_table(run_dir: Path, tmp_path: Path) -> None:
    program = ROOT / "export" / "runtimes" / "conformance.py"
    command = [sys.executable, str(program), str(run_dir), "--runtime", "tinygrad", "--out", str(tmp_path)]
    environment = {**os.environ, "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "conformance.md").read_text()
    assert "not run: tinygrad needs clang, which is not on this machine; install it |" in table
    assert "| tinygrad | not run | not run | not run |" in table
    assert "equals JAX" not in table


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("name", "precision"), [("opencv-4", "int8-static"), ("mnn", "int8")])
def test_a_runtime_that_is_wrong_without_a_word_is_caught(
    name: str, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    run = tmp_path / "run"
    trained = ["--dataset", "digits", "--preset", "lenet-5", "--epochs", "4", "--batch-size", "32"]
    assert main(["train", *trained, "--out", str(run)]) == 0
    assert main(["export", str(run), "--precision", precision, "--out", str(path)]) == 0
    assert main(["verify", str(path), "--run", str(run)]) == 0
    capsys.readouterr()
    assert main(["verify", str(path), "--run", str(run), "--runtime", name]) == 1
    assert "DIFFERS FROM JAX" in capsys.readouterr().out


def test_each_program_names_its_packages() -> None:
    """What a person runs with `uv run --script` is what is installed for the table."""
    for runtime in RUNTIMES.values():
        text = (environments.PROGRAMS / runtime.program).read_text()
        if runtime.program.endswith(".py"):
            (listed,) = re.findall(r"^# dependencies = (\[.*\])$", text, re.M)
            named = {re.split(r"[=<@]", package)[0] for package in runtime.pip}
            assert set(json.loads(listed)) == named, runtime.program
        for package in runtime.npm:
            assert package.partition("@")[0] in text
    programs = {path.name for path in environments.PROGRAMS.glob("on_*")}
    assert programs == {runtime.program for runtime in RUNTIMES.values()}
