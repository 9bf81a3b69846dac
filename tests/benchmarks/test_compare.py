"""`bench compare`: rows matched, ratios with intervals, differences named."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import compare
from bench.__main__ import app
from bench.timing import summarize
from mnist_jax.cli import main
from mnist_jax.errors import RunError


def result(path: Path, seconds: dict[str, list[float]], **fields: Any) -> Path:
    rows = [
        {"preset": name, "batch_size": 32, "epoch_seconds": summarize(times)._asdict()}
        for name, times in seconds.items()
    ]
    content = {"bench": "throughput", "device": "cpu: A", "versions": {"jax": "1"}, "rows": rows}
    path.write_text(json.dumps(content | fields))
    return path


def test_rows_are_matched_and_ratios_have_intervals(tmp_path: Path) -> None:
    times = {"fast": [1.0, 1.1, 0.9, 1.0, 1.2], "only": [1.0]}
    a = result(tmp_path / "a.json", times)
    b = result(
        tmp_path / "b.json", {"fast": [2.0, 2.2, 1.9, 2.1, 2.0]}, device="gpu: B", versions={"jax": "2"}
    )
    done = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert done.exit_code == 0
    assert "differs: device: cpu: A and gpu: B" in done.output
    assert "differs: jax: 1 and 2" in done.output
    assert "in one of them only: only, 32" in done.output
    (row,) = json.loads(done.output.splitlines()[-1])["rows"]
    assert (row["row"], row["ratio"]) == ("fast, 32", 0.5)
    assert 0.4 < row["low"] < 0.5 < row["high"] < 0.65


def test_an_interval_holds_the_truth_nearly_always() -> None:
    import numpy as np

    random, held = np.random.default_rng(0), 0
    for _ in range(60):
        a, b = (summarize(list(scale * random.lognormal(0, 0.1, 15)))._asdict() for scale in (1.0, 2.0))
        low, high = compare.interval(a, b)
        held += low <= 0.5 <= high
    assert held >= 51  # of 60 at 95 %, with room for so few samples


def test_results_without_samples_have_the_widest_interval() -> None:
    a, b = {"median": 1.0, "low": 0.5, "high": 2.0}, {"median": 1.0, "low": 1.0, "high": 2.0}
    assert compare.interval(a, b) == (0.25, 2.0)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"bench": "x", "rows": []}', '{"bench": "x", "rows": [{}]}']
)
def test_other_files_are_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RunError, match=r"a.json must be the JSON of a benchmark with times; ."):
        compare.read(tmp_path / "a.json")
    with pytest.raises(RunError, match=r"none.json cannot be read: No such file"):
        compare.read(tmp_path / "none.json")


@pytest.mark.slow
def test_the_wheel_carries_the_benchmarks(installed: Path, tmp_path: Path) -> None:
    a = result(tmp_path / "a.json", {"fast": [1.0, 1.1]})
    for command, expected in ((["compare", str(a), str(a)], "1.00 ("), (["--help"], "throughput")):
        done = subprocess.run(
            [str(installed / "mnist-jax"), "bench", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    (tmp_path / "b.json").write_text("{}")
    assert main(["bench", "compare", str(a), str(tmp_path / "b.json")]) == 2
