"""Other runtimes: every preset in every export format, in the runtimes that install quickly."""

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
from helpers.networks import NETWORKS
from helpers.onnx_files import edit
from helpers.paths import KEPT, ROOT

from mnist_jax.cli import main
from mnist_jax.config.networks import MLP, Spec
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import ModelError, RuntimeUnavailableError, SpecError
from mnist_jax.nn.model import init
from mnist_jax.runs import provenance
from mnist_onnx import runtime_check, runtime_envs, to_onnx
from mnist_onnx.parity_cases import ParityCase, parity_case
from mnist_onnx.runtime_check import RUNTIMES, check_runtime, run_in_runtime

pytestmark = pytest.mark.runtimes
FORMS = [(i, o) for i in ("uint8", "float32") for o in ("probabilities", "logits")]
OF_EACH_KIND = ("mlp-50-50-sigmoid", "cnn-32-64", "ensemble")
QUICK = ("onnxruntime", "onnxruntime-1.15", "onnx-reference", "opencv", "openvino")


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_envs, "cache_dir", lambda: KEPT)


@pytest.fixture(scope="module")
def available() -> Callable[[str], None]:
    """Skips where a runtime can't be installed; fails in CI, where it must be."""

    def check(name: str) -> None:
        try:
            runtime_envs.environment(name, RUNTIMES[name])
        except RuntimeUnavailableError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))

    return check


def written(
    folder: Path, spec: Spec, images: np.ndarray, input_: str, output: str
) -> tuple[Path, onnx.ModelProto, ParityCase]:
    """Writes a file; returns its path, its model and its parity case."""
    params = init(spec, jax.random.key(0))
    model = to_onnx(spec, params, input=input_, output=output)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path, model, parity_case(spec, params, path.read_bytes(), images)


def few(case: ParityCase) -> ParityCase:
    """The first five images and the last ten inputs of noise, for a slow runtime."""
    rows = np.r_[:5, -10:0]
    return ParityCase(*(field[rows] for field in case[:5]), 5)


def others_take_long(name: str) -> Any:
    quick = name in (*QUICK, *OF_EACH_KIND)
    return pytest.param(name, marks=[] if quick else [pytest.mark.nightly])


@pytest.mark.slow
@pytest.mark.parametrize("name", [others_take_long(name) for name in RUNTIMES])
@pytest.mark.parametrize("network", [others_take_long(name) for name in NETWORKS])
def test_every_form_of_every_network_equals_jax(
    name: str, network: str, tmp_path: Path, digits: Dataset, available: Callable[[str], None]
) -> None:
    available(name)

    def one(form: tuple[str, str]) -> None:
        folder = tmp_path / "-".join(form)
        folder.mkdir()
        path, _, case = written(folder, NETWORKS[network], digits.test.images, *form)
        if name == "onnx-reference" and network in ("cnn-32-64", "ensemble"):
            case = few(case)
        result = check_runtime(name, path, case)
        assert result.passed, (form, result)
        assert (result.same_answers, result.disagreements) == (case.n, 0)
        assert result.n + result.noise == len(case.pixels)
        assert result.max_abs_difference is not None
        assert 0 <= result.max_abs_difference <= case.limit.max()
        assert result.seconds is not None
        assert result.seconds > 0
        assert result.version[0].isdigit()

    with ThreadPoolExecutor(2) as pool:  # each runs in a process of its own
        list(pool.map(one, FORMS))


def test_a_wrong_file_fails_with_its_differences(tmp_path: Path, digits: Dataset) -> None:
    path, model, case = written(tmp_path, MLP((20,), ("relu",)), digits.test.images, "uint8", "logits")
    path.write_bytes(edit(model, "Dense_1.bias", lambda bias: bias + np.float32(0.05)).SerializeToString())
    result = check_runtime("onnx-reference", path, case)
    assert (result.passed, result.loads, result.dynamic_batch) == (False, True, True)
    assert re.fullmatch(r"\d+ of 1,577 predictions differ; outputs differ by up to 5\.0e-02", result.reason)
    not_numbers = edit(model, "Dense_1.bias", lambda bias: bias * np.float32(np.nan))
    path.write_bytes(not_numbers.SerializeToString())
    result = check_runtime("onnx-reference", path, case)
    assert (result.passed, result.same_answers, result.disagreements) == (False, 0, 1577)


def test_a_file_that_a_runtime_cannot_run_gives_a_reason(tmp_path: Path, digits: Dataset) -> None:
    path, model, case = written(tmp_path, MLP((), ()), digits.test.images, "uint8", "logits")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path.write_bytes(model.SerializeToString())
    result = check_runtime("onnxruntime", path, case)
    assert (result.passed, result.loads, result.dynamic_batch, result.version) == (False, True, False, "")
    assert re.match(r"onnxruntime cannot run the file; its error: .*INVALID_ARGUMENT", result.reason)
    path.write_bytes(b"no model")
    result = check_runtime("onnxruntime", path, case)
    assert (result.loads, result.max_abs_difference) == (False, None)
    with pytest.raises(ModelError, match="onnxruntime cannot run the file; its error: "):
        run_in_runtime("onnxruntime", path, case.pixels)


def test_a_runtime_that_cannot_be_installed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime_envs, "cache_dir", lambda: tmp_path)
    impossible = RUNTIMES["onnxruntime"]._replace(pip=("no-such-package-of-ours==99",))
    monkeypatch.setitem(runtime_check.RUNTIMES, "onnxruntime", impossible)
    capsys.readouterr()
    assert main(["verify", str(run_dir), "--runtime", "onnxruntime"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("mnist-jax: onnxruntime cannot be installed here; the error of python: ERROR: ")
    assert message.count("\n") == 1
    monkeypatch.setenv("PATH", "")
    assert main(["verify", str(run_dir), "--runtime", "onnxruntime-node"]) == 2
    assert "needs node, which is not on this machine; install it" in capsys.readouterr().err
    assert main(["verify", str(run_dir), "--runtime", "chromium"]) == 2
    assert "needs chromium" in capsys.readouterr().err
    with pytest.raises(SpecError, match=r"runtime must be one of .*; got 'keras'"):
        run_in_runtime("keras", tmp_path, np.zeros((1, 28, 28), np.uint8))


def test_verify_runs_another_runtime(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["verify", str(run_dir), "--runtime", "onnxruntime"]) == 0
    assert re.search(r"in onnxruntime [\d.]+ equals JAX: 297 images", capsys.readouterr().out)
    assert main(["verify", str(run_dir), "--runtime", "onnxruntime", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dynamic_batch"] is True


@pytest.mark.slow
def test_the_table_shows_the_results(run_dir: Path, tmp_path: Path) -> None:
    names = ["onnxruntime", "onnx-reference"]
    options = [part for name in names for part in ("--runtime", name)]
    command = [sys.executable, "-m", "bench", "conformance", str(run_dir), *options, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
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
    assert (
        "| onnx-reference | 297 of 297 | refuses | refuses |" in smaller
    )  # has no DequantizeLinear for old opsets
    where = rf"float32, float16, int8, int8-static: [\d-]+, {re.escape(provenance.processor())}; jax "
    assert re.search(where, (tmp_path / "conformance.md").read_text())
    # A second run replaces the rows of its runtimes; the others stay.
    again = [*command[:5], "--runtime", names[0], "--precision", "int8-static", "--out", str(tmp_path)]
    assert subprocess.run(again, cwd=ROOT, capture_output=True, check=False).returncode == 0
    rows = json.loads((tmp_path / "conformance.json").read_text())
    assert (len(rows), {row["runtime"] for row in rows}) == (14, set(names))
    assert all(row["measured"] for row in rows)
    (tmp_path / "conformance.json").write_text("{")
    assert subprocess.run(again, cwd=ROOT, capture_output=True, check=False).returncode == 2

    bad = subprocess.run([*command[:4], str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert re.fullmatch(r"bench: .* must be a run directory.*\n", bad.stderr)


@pytest.mark.slow
def test_the_table_shows_runtimes_that_cannot_be_installed(run_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "conformance", str(run_dir), "--runtime", "tinygrad"]
    command += ["--out", str(tmp_path)]
    environment = {**os.environ, "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "conformance.md").read_text()
    assert "not run: tinygrad needs clang, which is not on this machine; install it |" in table
    assert "| tinygrad | not run | not run | not run |" in table
    assert "equals JAX" not in table


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "precision"), [("opencv-4", "int8-static"), ("mnn", "int8")])
def test_a_runtime_that_silently_returns_wrong_results_is_detected(
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


def test_each_program_declares_its_packages() -> None:
    """`uv run --script` installs the same packages as `runtime_envs`."""
    for runtime in RUNTIMES.values():
        text = (runtime_envs.PROGRAMS / runtime.program).read_text()
        if runtime.program.endswith(".py"):
            (listed,) = re.findall(r"^# dependencies = (\[.*\])$", text, re.M)
            named = {re.split(r"[=<@]", package)[0] for package in runtime.pip}
            assert set(json.loads(listed)) == named, runtime.program
        for package in runtime.npm:
            assert package.partition("@")[0] in text
    programs = {path.name for path in runtime_envs.PROGRAMS.glob("on_*")}
    assert programs == {runtime.program for runtime in RUNTIMES.values()}
