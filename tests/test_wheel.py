"""What users install, outside the checkout."""

import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest


def run(installed: Path, program: str, *arguments: str, cwd: Path) -> str:
    command = [str(installed / program), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_packages_come_from_the_wheel_with_their_types(installed: Path, tmp_path: Path) -> None:
    code = """
import pathlib, mnist_jax, mnist_onnx
for package in (mnist_jax, mnist_onnx):
    folder = pathlib.Path(package.__file__).parent
    assert (folder / "py.typed").exists()
    print(folder)
"""
    for folder in run(installed, "python", "-c", code, cwd=tmp_path).split():
        assert Path(folder).is_relative_to(installed.parent), folder


def test_the_wheel_brings_nothing_but_its_two_packages(installed: Path) -> None:
    (record,) = installed.parent.rglob("mnist_jax-*.dist-info/RECORD")
    tops = {line.split(",")[0].split("/")[0] for line in record.read_text().splitlines()}
    assert {top for top in tops if "dist-info" not in top} == {"mnist_jax", "mnist_onnx", ".."}
    assert "bin/mnist-jax" in record.read_text()
    for path in ("web/app.js", "web/index.html", "programs/contract.py", "programs/on_openvino.cpp"):
        assert f"\nmnist_onnx/{path}," in record.read_text()


def test_the_command_works_there(installed: Path, tmp_path: Path) -> None:
    out = run(
        installed, "mnist-jax", "train", "--dataset", "digits", "--epochs", "1", "--out", "run", cwd=tmp_path
    )
    assert "equals JAX" in out
    assert (tmp_path / "run" / "model.onnx").exists()


def test_the_page_works_there(
    installed: Path, run_dir: Path, page_files: dict[str, bytes], home_with_kept_files: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(home_with_kept_files)}
    program = str(installed / "mnist-jax")
    done = subprocess.run(
        [program, "web", str(run_dir)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "app.js").read_bytes() == page_files["app.js"]
    serving = subprocess.Popen(
        [program, "serve", str(run_dir), "--no-browser"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert serving.stdout is not None
    with serving, urllib.request.urlopen(serving.stdout.readline().strip() + "model.onnx") as response:
        assert response.read() == page_files["model.onnx"]
        serving.send_signal(signal.SIGINT)
        assert serving.wait() == 0


def test_other_runtimes_are_asked_there(
    installed: Path, run_dir: Path, home_with_kept_files: Path, tmp_path: Path
) -> None:
    code = "from mnist_onnx.environments import PROGRAMS; print(PROGRAMS)"
    assert run(installed, "python", "-c", code, cwd=tmp_path).strip().endswith("mnist_onnx/programs")
    done = subprocess.run(
        [str(installed / "mnist-jax"), "verify", str(run_dir), "--runtime", "onnxruntime"],
        cwd=tmp_path, env={**os.environ, "XDG_CACHE_HOME": str(home_with_kept_files)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "cannot be installed here" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "in onnxruntime" in done.stdout
