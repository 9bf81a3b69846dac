"""What users install, outside the checkout."""

import subprocess
from pathlib import Path


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


def test_the_command_works_there(installed: Path, tmp_path: Path) -> None:
    out = run(
        installed, "mnist-jax", "train", "--dataset", "digits", "--epochs", "1", "--out", "run", cwd=tmp_path
    )
    assert "equals JAX" in out
    assert (tmp_path / "run" / "model.onnx").exists()
