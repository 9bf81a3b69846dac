"""The search: it saves trials, resumes, and trains the best network again."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from helpers.results import results_of

from mnist_jax.cli import main, tune, tune_study
from mnist_jax.cli.tune_space import Space
from mnist_jax.data.datasets import Dataset
from mnist_jax.runs import directory, locking

pytest.importorskip("optuna", reason="Optuna: the extra `tune`")
TUNE = ["tune", "--dataset", "digits", "--epochs", "2"]


@pytest.mark.slow
def test_a_search_resumes_and_keeps_the_best(
    tmp_path: Path, fake_mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    assert main([*TUNE, "--trials", "2", "--out", str(out), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    run = directory.read(out / "run")
    assert first["search"]["trials"] == 2
    assert run.config.batch_size == first["search"]["settings"]["batch_size"]
    assert run.hyperparams.learning_rate == first["search"]["settings"]["learning_rate"]
    assert run.config.deformation is not None
    assert run.config.deformation.rotate == 15 * first["search"]["settings"]["deformation"]
    assert results_of(out / "run").accuracy == first["test"]["accuracy"]
    with closing(sqlite3.connect(out / "study.db")) as file:
        values = [value for (value,) in file.execute("SELECT value FROM trial_values ORDER BY trial_id")]
    assert values[0] != values[1]
    assert first["search"]["best"] == values.index(max(values))

    assert main([*TUNE, "--trials", "3", "--out", str(out)]) == 2
    assert f"move it away to continue the search, or resume it: mnist-jax train --resume {out / 'run'}" in (
        capsys.readouterr().err
    )
    (out / "run").rename(tmp_path / "kept")
    for words, message in (
        (["--epochs", "3"], "has a search with epochs 2; got 3; choose another directory"),
        (["--seed", "5"], "has a search with seed 0; got 5; choose another directory"),
        (["--validation-fraction", "0.3"], "has a search with validation_fraction 0.16"),
        (["--dataset", "fake"], "data set must be one of"),
        (
            ["--dataset", "mnist", "--data-dir", str(fake_mnist)],
            "has a search with dataset 'digits'; got 'mnist'; choose another directory",
        ),
    ):
        assert main([*TUNE, "--trials", "3", *words, "--out", str(out)]) == 2
        assert message in capsys.readouterr().err
    with locking.lock_dir(out):
        assert main([*TUNE, "--trials", "3", "--out", str(out)]) == 2
    assert "is in use by another process" in capsys.readouterr().err
    assert main([*TUNE, "--trials", "3", "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["search"]["trials"] == 3
    assert captured.err.count("trial ") == 1
    with closing(sqlite3.connect(out / "study.db")) as file:
        rates = file.execute(
            "SELECT param_value FROM trial_params WHERE param_name = 'learning_rate'"
        ).fetchall()
    assert len(set(rates)) == 3  # a resumed search does not repeat its suggestions


@pytest.mark.slow
def test_trials_below_the_median_are_pruned(digits: Dataset, tmp_path: Path) -> None:
    layer = {"layers": 1, "width_0": 64, "batch_size": 64, "dropout": 0.0, "label_smoothing": 0.0}
    with tune_study.open_study(tmp_path, {"seed": 0}) as study:
        for strength, rate in [*[(0.0, 1e-2)] * 4, (1.2, 3e-4)]:
            study.enqueue_trial({**layer, "deformation": strength, "learning_rate": rate})
        study.optimize(lambda trial: tune._objective(trial, Space(), digits, 4, 0), n_trials=5)
        *good, behind = study.trials
        assert [(trial.state.name, max(trial.intermediate_values)) for trial in good] == [("COMPLETE", 4)] * 4
        assert (behind.state.name, max(behind.intermediate_values)) == ("PRUNED", 1)
        assert tune_study.count_finished(study) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", "0"], "trials must be a whole number of at least 1; got 0"),
        (
            ["--validation-fraction", "0"],
            "must be above 0, for model selection; got 0",
        ),
        (["--seed", "-1"], "seed must be a whole number from 0"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TUNE, *words, "--out", str(tmp_path / "tuned")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tuned").exists()


def test_foreign_directories_and_files_are_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main([*TUNE, "--out", str(tmp_path)]) == 2
    assert "a run needs a new or an empty directory" in capsys.readouterr().err
    (tmp_path / "study.db").write_text("junk")
    assert main([*TUNE, "--out", str(tmp_path)]) == 2
    assert "study.db must be a search written by tune; " in capsys.readouterr().err
    (tmp_path / "study.db").unlink()
    with closing(sqlite3.connect(tmp_path / "study.db")) as file:
        file.execute("CREATE TABLE mine (a)")
    before = (tmp_path / "study.db").read_bytes()
    assert main([*TUNE, "--out", str(tmp_path)]) == 2
    assert "study.db must be a search written by tune; it is another database" in capsys.readouterr().err
    assert (tmp_path / "study.db").read_bytes() == before


@pytest.mark.slow
def test_a_damaged_search_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned"
    assert main([*TUNE[:-1], "1", "--trials", "1", "--seed", str(2**32 - 1), "--out", str(out)]) == 0
    (out / "run").rename(tmp_path / "kept")
    good = (out / "study.db").read_bytes()
    command = [*TUNE[:-1], "1", "--trials", "2", "--seed", str(2**32 - 1), "--out", str(out)]
    for place in (5_000, 20_000, 60_000):
        (out / "study.db").write_bytes(good[:place] + b"\xff" * 6000 + good[place + 6000 :])
        capsys.readouterr()
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "study.db must be a search written by tune; " in line
    (out / "study.db").write_bytes(good)
    assert main(command) == 0  # although the next seed would exceed 32 bits


def test_an_empty_search_is_started(tmp_path: Path) -> None:
    """As left by a kill or a full disk while Optuna creates the file."""
    for number, content in enumerate((b"", b"a database without tables")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "study.db").write_bytes(b"")
        (folder / ".study.db.0a1b2c3d").write_bytes(b"half")
        if content:
            with closing(sqlite3.connect(folder / "study.db")) as file:
                file.executescript("CREATE TABLE a (b); DROP TABLE a;")
            assert (folder / "study.db").stat().st_size
        with locking.reopen_run_dir(folder), tune_study.open_study(folder, {"seed": 3}) as study:
            assert (len(study.trials), study.user_attrs) == (0, {"seed": 3})
        assert [path.name for path in folder.iterdir()] == ["study.db"]


def test_a_new_search_is_created_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    folder = tmp_path / "tuned"
    with (
        pytest.raises(OSError, match="No space left"),
        locking.create_dir(folder),
        tune_study.open_study(folder, {"seed": 0}),
    ):
        pytest.fail("begun")
    assert not folder.exists()


def test_a_full_disk_is_reported_and_the_search_resumes(tmp_path: Path) -> None:
    """The file may not grow beyond its current size, and each trial adds to it."""
    with tune_study.open_study(tmp_path, {"seed": 0}) as study:
        study.set_user_attr("filling", "x" * 4096)
    size = (tmp_path / "study.db").stat().st_size // 512
    code = (
        "import sys; from pathlib import Path; from mnist_jax.cli import tune_study\n"
        "with tune_study.open_study(Path(sys.argv[1]), {'seed': 0}) as study:\n"
        "    for number in range(50): study.set_user_attr(str(number), 'x' * 1000)"
    )
    line = f'ulimit -f {size}; exec "{sys.executable}" -c "{code}" "{tmp_path}"'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    stderr = done.stderr.splitlines()[-1]
    assert f"{tmp_path / 'study.db'} must be writable; " in stderr
    assert stderr.endswith("; the same command then resumes the search")
    with tune_study.open_study(tmp_path, {"seed": 0}) as study:
        assert len(study.user_attrs["filling"]) == 4096


def test_a_run_that_cannot_be_resumed_gets_no_resume_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    with locking.create_dir(out), tune_study.open_study(out, {"seed": 0}):
        pass
    (out / "run").mkdir()
    (out / "run" / ".config.json.0a1b2c3d").write_text("half")
    (out / "run" / "notes.txt").write_text("mine")
    command = [*TUNE[:-1], "1", "--trials", "1", "--out", str(out)]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert f"{out / 'run'} holds other files" in message
    assert "--resume" not in message
    (out / "run" / "notes.txt").unlink()
    assert main(command) == 0
    assert len(results_of(out / "run").history) == 1
    assert {path.name for path in out.iterdir()} == {"run", "study.db"}


def test_a_missing_optuna_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main([*TUNE, "--out", str(tmp_path / "tuned")]) == 2
    assert 'pip install "mnist-jax[tune]"' in capsys.readouterr().err
