"""The installed wheel, outside the checkout."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from mnist_jax.cli import main
from mnist_onnx import Classifier, load, save, to_onnx


def run(installed: Path, program: str, *arguments: str, cwd: Path) -> str:
    command = [str(installed / program), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_packages_are_in_the_wheel_with_type_information(installed: Path, tmp_path: Path) -> None:
    code = """
import pathlib, mnist_jax, mnist_onnx
for package in (mnist_jax, mnist_onnx):
    folder = pathlib.Path(package.__file__).parent
    assert (folder / "py.typed").exists()
    print(folder)
"""
    for folder in run(installed, "python", "-c", code, cwd=tmp_path).split():
        assert Path(folder).is_relative_to(installed.parent), folder


def test_the_wheel_contains_only_its_packages(installed: Path) -> None:
    (record,) = installed.parent.rglob("mnist_jax-*.dist-info/RECORD")
    tops = {line.split(",")[0].split("/")[0] for line in record.read_text().splitlines()}
    assert {top for top in tops if "dist-info" not in top} == {"bench", "mnist_jax", "mnist_onnx", ".."}
    assert "bin/mnist-jax" in record.read_text()
    for path in ("webapp/app.js", "webapp/index.html", "programs/contract.py", "programs/on_openvino.cpp"):
        assert f"\nmnist_onnx/{path}," in record.read_text()


def test_the_command_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    out = run(
        installed, "mnist-jax", "train", "--dataset", "digits", "--epochs", "1", "--out", "run", cwd=tmp_path
    )
    assert "equals JAX" in out
    assert (tmp_path / "run" / "model.onnx").exists()


@pytest.fixture(scope="module")
def light(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder after `pip install --no-deps mnist-jax numpy onnxruntime lazy-loader`."""
    folder = tmp_path_factory.mktemp("light")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    scripts = folder / installed.name
    (wheel,) = installed.parents[1].glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python"), "--quiet", "--no-input"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (own,) = folder.glob("l*b/**/site-packages")  # the `lib` of one system is the `Lib` of another
    for name in ("numpy", "onnxruntime", "lazy-loader"):
        package = metadata.distribution(name)
        for top in {file.parts[0] for file in package.files or []} - {".."}:
            (own / top).symlink_to(package.locate_file(top))
    return scripts


def test_predictions_need_only_numpy_and_onnx_runtime(light: Path, run_dir: Path, tmp_path: Path) -> None:
    spec, params = load(run_dir / "model.onnx")
    for input_ in ("uint8", "float32"):
        save(to_onnx(spec, params, input=input_, output="logits"), tmp_path / f"{input_}.onnx")
    foreign = to_onnx(spec, params, input="float32")
    del foreign.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(foreign.SerializeToString())
    code = """
import numpy as np, mnist_jax, mnist_onnx
from mnist_onnx import Classifier
images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
from_uint8, from_float32 = Classifier("uint8.onnx"), Classifier("float32.onnx")
expected = from_uint8.predict(images)
for result in (from_float32.predict(images), from_float32.predict(images / np.float32(255))):
    np.testing.assert_allclose(result, expected, atol=1e-6)
print(expected.tolist())
def raises(get, message):
    try:
        get()
    except ModuleNotFoundError as error:
        assert f"{message}, which is not installed; pip install" in str(error), error
        assert len(str(error).splitlines()) == 1
    else:
        raise AssertionError(message)
raises(lambda: mnist_jax.preprocess.prepare, "mnist_jax.preprocess.prepare needs opencv-python-headless")
raises(lambda: mnist_jax.preprocess.read, "mnist_jax.preprocess.read needs opencv-python-headless")
raises(lambda: mnist_jax.fit, "mnist_jax.fit needs jax")
raises(lambda: mnist_onnx.to_onnx, "mnist_onnx.to_onnx needs onnx")
raises(lambda: Classifier("foreign.onnx", input_range="0..1"), "needs onnx")
"""
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    result = json.loads(run(light, "python", "-c", code, cwd=tmp_path))
    np.testing.assert_allclose(result, Classifier(run_dir / "model.onnx").predict(images), atol=1e-6)


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "model.onnx", "seven.png"], []])
def test_without_typer_the_command_prints_one_line(light: Path, tmp_path: Path, arguments: list[str]) -> None:
    for command in ([str(light / "mnist-jax")], [str(light / "python"), "-m", "mnist_jax.cli"]):
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "mnist-jax: the command needs typer, which is not installed; pip install typer, "
            "or pip install mnist-jax for all dependencies\n"
        )


def test_a_missing_package_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run_dir: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["predict", str(run_dir), "seven.png"]) == 2
    assert capsys.readouterr().err == (
        "mnist-jax: this command needs onnxruntime, which is not installed; pip install onnxruntime, "
        "or pip install mnist-jax for all dependencies\n"
    )


def test_the_web_page_works_from_the_wheel(
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


def test_other_runtimes_work_from_the_wheel(
    installed: Path, run_dir: Path, home_with_kept_files: Path, tmp_path: Path
) -> None:
    code = "from mnist_onnx.runtime_envs import PROGRAMS; print(PROGRAMS)"
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
