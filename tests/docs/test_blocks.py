"""The code blocks of the README and of the documentation run, from the wheel, outside the checkout."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

# `python` and `sh` blocks run, unless the line before says why not: <!-- not run: it needs a GPU -->
BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if any(not skip for skip, _, _ in BLOCK.findall(path.read_text()))
]
# One process per page, because importing JAX takes longer than most blocks; a fresh namespace per block.
PROGRAM = """
import json, subprocess, sys
for language, text, place in json.load(sys.stdin):
    print(place, flush=True)
    if language == "python":
        exec(compile(text, place, "exec"), {"__name__": "__main__"})
    else:
        subprocess.run(["sh", "-ec", text], check=True)
"""


def blocks(page: str, mnist: bool) -> list[tuple[str, str, str]]:
    """The language, text and place of each block that runs; without MNIST, `digits` takes its place."""
    text = (ROOT / page).read_text()
    result = []
    for found in BLOCK.finditer(text):
        skip, language, block = found.groups()
        if not skip:
            place = f"{page}:{text[: found.start(3)].count('\n') + 1}"
            block = block if mnist else block.replace('load("mnist")', 'load("digits")')
            result.append((language, block, place))
    return result


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page: str, installed: Path, tmp_path: Path) -> None:
    """In order, in an empty folder, compiled as users' do; the README's with the real MNIST, if it exists."""
    environment = {**os.environ, "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    data_dir = os.environ.get("MNIST_JAX_TEST_DATA_DIR") if page == "README.md" else None
    if data_dir:
        environment["MNIST_JAX_DATA_DIR"] = str((ROOT / data_dir).resolve())
    done = subprocess.run(
        [str(installed / "python"), "-W", "error", "-c", PROGRAM],
        input=json.dumps(blocks(page, bool(data_dir))),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_shell_blocks_call_nothing_but_the_command(page: str) -> None:
    for language, block, place in blocks(page, True):
        lines = [line for line in block.splitlines() if language == "sh" and line.strip()]
        assert all(line.startswith("mnist-jax ") for line in lines), place


def test_recipes_are_short() -> None:
    for _, block, place in blocks("docs/guides/loop.md", True):
        assert len([line for line in block.splitlines() if line.strip()]) < 25, place


@pytest.mark.nightly
def test_the_recipe_for_other_functions_works_in_an_environment_of_its_own(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs/guides/onnx.md").read_text(), flags=re.DOTALL)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "own")], check=True)
    python = str(tmp_path / "own" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT), "jax2onnx"], check=True)
    done = subprocess.run([python, "-c", recipe], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['Flatten', 'Gemm', 'Tanh', 'Mul']\n"
