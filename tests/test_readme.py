"""Everything the README shows to be typed is run, from the installed wheel, outside the checkout."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_jax.cli import reproduce

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# What sets up or tests a clone can't be run from inside a test; a clone in a fresh folder proves it.
NOT_RUN = {
    "pip install uv && uv run mnist-jax train",
    "uv run pytest",
    "uv run mnist-jax train --preset mlp-1500-1000-500-deformed",
    "uv sync --extra cuda",
    "uv sync --extra tpu",
}
# Minutes long; their own tests run them.
NOT_RUN_PREFIX = (
    "mnist-jax reproduce",
    "uv run python -m bench",
    "uv run python export/runtimes/conformance.py",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_every_block_does_what_it_says(installed: Path, tmp_path: Path) -> None:
    """In order, in one folder; with `digits` in MNIST's place where the real data is not at hand."""
    environment = {**os.environ, "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
    data_dir = os.environ.get("MNIST_JAX_TEST_DATA_DIR")
    if data_dir:
        environment["MNIST_JAX_DATA_DIR"] = str((ROOT / data_dir).resolve())
    ran = 0
    for language, block in re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL):
        text = block if data_dir else block.replace('load("mnist")', 'load("digits")')
        if language == "python":
            commands = [[str(installed / "python"), "-W", "error", "-c", text]]
        else:
            lines = [line.split("  #")[0].strip() for line in text.splitlines() if line.strip()]
            lines = [line for line in lines if line not in NOT_RUN and not line.startswith(NOT_RUN_PREFIX)]
            assert all(line.startswith("mnist-jax ") for line in lines), lines
            commands = [["sh", "-c", line] for line in lines]
        for command in commands:
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran >= 5


@pytest.mark.slow
@pytest.mark.long
def test_the_recipe_for_other_functions_works_in_an_environment_of_its_own(tmp_path: Path) -> None:
    (recipe,) = blocks("py")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "own")], check=True)
    python = str(tmp_path / "own" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT), "jax2onnx"], check=True)
    done = subprocess.run([python, "-c", recipe], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['Flatten', 'Gemm', 'Tanh', 'Mul']\n"


def test_the_table_is_the_measured_one() -> None:
    measured = ROOT / "bench" / "results" / "five-presets.md"
    assert measured.read_text() in README
    assert reproduce._markdown(json.loads(measured.with_suffix(".json").read_text())) == measured.read_text()


def test_the_first_screen_is_one_sentence_one_table_one_block() -> None:
    start, *_ = README.split("\n## ")
    assert start.count("```") == 2
    assert start.index("\n|") < start.index("```")
    assert len(start.splitlines()) < 40


def test_files_that_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_every_guarantee_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", README)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), test


def test_the_tables_of_runtimes_are_what_was_found() -> None:
    exact, _, _, smaller, _ = (ROOT / "bench" / "results" / "conformance.md").read_text().split("\n\n")
    assert exact in README
    assert smaller in README


@pytest.mark.parametrize(
    "name",
    ["peers-mlp-100", "peers-lenet-5", "peers-cnn-32-64", "accuracy", "infer-mlp-100", "freehand", "recipes"],
)
def test_tables_of_speed_are_the_measured_ones(name: str) -> None:
    table, _, _ = (ROOT / "bench" / "results" / f"{name}.md").read_text().partition("\n\n")
    assert table in README
