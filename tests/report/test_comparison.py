"""Comparison of runs: hand-computed counts, images, page."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.results import results_of

from mnist_jax.cli import main
from mnist_jax.report.comparison import Member, differences, disputed, pairs
from mnist_jax.runs import directory

LABELS = np.array([0, 1, 2, 3, 4, 5])


@pytest.fixture(scope="session")
def members(run_dir: Path) -> list[Member]:
    """Two runs with made-up predictions."""
    given = [[0, 1, 2, 3, 4, 9], [0, 7, 2, 8, 4, 8]]
    run, result = directory.read(run_dir), results_of(run_dir)
    return [Member(name, run, result, np.array(row)) for name, row in zip("ab", given, strict=True)]


def test_pairs_are_counted(members: list[Member]) -> None:
    (pair,) = pairs(members, LABELS)
    assert pair == ("a", "b", 3, 2, 0, 1, 0.5)  # two of two: 2 * (1/2)**2
    (same,) = pairs([members[0], members[0]], LABELS)
    assert (same.first_only, same.second_only, same.p_value) == (0, 0, 1)


def test_the_p_value_is_mcnemars_exact(members: list[Member]) -> None:
    labels = np.zeros(30, int)
    one, two = np.zeros(30, int), np.zeros(30, int)
    one[:3], two[3:15] = 1, 1  # only the first is wrong on 3, only the second on 12
    (pair,) = pairs([members[0]._replace(answers=one), members[1]._replace(answers=two)], labels)
    assert pair.p_value == pytest.approx(2 * (1 + 15 + 105 + 455) / 2**15)


def test_disputed_images_come_hardest_first(members: list[Member]) -> None:
    assert disputed(members, LABELS).tolist() == [5, 1, 3]
    assert disputed([members[0]] * 2, LABELS).tolist() == []


def test_differing_settings_are_shown(members: list[Member]) -> None:
    from dataclasses import replace

    run = members[0].run
    other = replace(run, seed=5, hyperparams=run.hyperparams._replace(learning_rate=0.5))
    assert differences([members[0], members[1]._replace(run=other)]) == [
        {"learning_rate": 0.001, "seed": 0},
        {"learning_rate": 0.5, "seed": 5},
    ]


@pytest.mark.slow
def test_two_runs_on_the_command_line(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other", tmp_path / "page.html"
    words = ["--dataset", "digits", "--preset", "mlp-50-50-sigmoid", "--epochs", "1", "--seed", "3"]
    assert main(["train", *words, "--out", str(other)]) == 0
    capsys.readouterr()
    assert main(["compare", str(run_dir), str(other), "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    metrics = [json.loads((folder / directory.METRICS).read_text()) for folder in (run_dir, other)]
    for row, measured in zip(result["runs"], metrics, strict=True):
        assert row["accuracy"] == measured["test"]["accuracy"]
        assert row["interval"][0] < row["accuracy"] < row["interval"][1]
    assert result["runs"][1]["settings"]["seed"] == 3
    (pair,) = result["pairs"]
    assert pair["both"] + pair["first_only"] == round(
        metrics[0]["test"]["accuracy"] * metrics[0]["test"]["n"]
    )
    assert pair["both"] + pair["second_only"] == round(
        metrics[1]["test"]["accuracy"] * metrics[1]["test"]["n"]
    )
    html = out.read_text()
    for measured in metrics:
        assert f"{100 * measured['test']['accuracy']:.2f} %" in html
    assert 'aria-label="Images on which the runs disagree"' in html

    assert main(["compare", str(run_dir), str(other), "--out", str(out)]) == 0  # overwrites its own page
    table = capsys.readouterr().out
    assert "mlp-50-50-sigmoid" in table
    assert f": {pair['first_only']}, only in " in table


def test_names_are_shown_printably(run_dir: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ('_#0072b2 id="x_1"', "日本$", os.fsdecode(b"bad\xff"))]
    for folder in folders:
        shutil.copytree(run_dir, folder)
    out = tmp_path / "page.html"
    assert main(["compare", *map(str, folders), "--out", str(out)]) == 0
    html = out.read_text()
    for name in ("_#0072b2", "日本$", "bad?"):
        assert name in html.split('aria-label="Loss by epoch"')[1].split("</svg>")[0]


def test_incomparable_runs_are_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(run_dir)]) == 2
    assert "compare needs two or more different runs; got" in capsys.readouterr().err
    assert main(["compare", str(run_dir), f"{run_dir}/../run"]) == 2
    assert "compare needs two or more different runs; got" in capsys.readouterr().err
    other = Path(shutil.copytree(run_dir, tmp_path / "other"))
    config = json.loads((other / directory.CONFIG).read_text()) | {"dataset_sha256": "0" * 64}
    (other / directory.CONFIG).write_text(json.dumps(config))
    assert main(["compare", str(run_dir), str(other), "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert re.search(r"compare needs runs on the same data; \S+ is on digits, \S+ on another digits", error)
    assert not (tmp_path / "page.html").exists()
