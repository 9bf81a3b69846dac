"""Early stopping and the best epoch, from the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mnist_jax.cli import main
from mnist_jax.training import checkpoint

TRAIN = ["train", "--dataset", "digits", "--hidden", "16", "--learning-rate", "0.03"]
STOP = ["--early-stopping", "3", "--keep-best"]


def kernel(run: Path) -> np.ndarray:
    params, _ = checkpoint.load_params(run / "checkpoint.safetensors")
    return np.asarray(params["Dense_0"]["kernel"])


def losses(run: Path) -> list[float]:
    rows = csv.DictReader((run / "history.csv").read_text().splitlines())
    return [float(row["validation_loss"]) for row in rows]


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # Checkpoints are rarer than the end: early stopping writes its own.
    assert main([*TRAIN, *STOP, "--epochs", "60", "--checkpoint-every", "50", "--out", str(whole)]) == 0
    printed = capsys.readouterr()
    scored = losses(whole)
    best = int(np.argmin(scored)) + 1
    assert len(scored) == best + 3 < 50
    assert f"best       epoch {best} of {best + 3}, whose network is kept" in printed.out
    assert f"stopped early after {best + 3} epochs, 3 since the best validation loss" in printed.err
    assert json.loads((whole / "metrics.json").read_text())["best_epoch"] == best
    for command in (["verify"], ["evaluate"], ["report"]):
        assert main([*command, str(whole)]) == 0
    assert main(["train", "--resume", str(whole), "--epochs", "70"]) == 2
    assert "it stopped early; a new run with a larger --early-stopping" in capsys.readouterr().err

    assert main([*TRAIN, *STOP, "--epochs", "2", "--out", str(parts)]) == 0
    assert main(["train", "--resume", str(parts), "--epochs", "60"]) == 0
    assert losses(parts) == scored
    assert np.array_equal(kernel(parts), kernel(whole))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--early-stopping", "0"], "early stopping must be a whole number of at least 1; got 0"),
        (["--monitor", "loss"], "monitor needs early stopping, or the best epoch kept; got loss alone"),
        (["--keep-best", "--monitor", "f1"], "monitor must be one of validation_loss"),
        (["--keep-best", "--validation-fraction", "0"], "can be monitored with a validation set only"),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*TRAIN, *arguments, "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


def test_damaged_settings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main([*TRAIN, *STOP, "--epochs", "1", "--out", str(run)]) == 0
    whole = json.loads((run / "config.json").read_text())
    for changes in ({"early_stopping": True}, {"keep_best": "yes"}, {"monitor": 3}, {"early_stopping": -1}):
        (run / "config.json").write_text(json.dumps({**whole, **changes}))
        capsys.readouterr()
        assert main(["verify", str(run)]) == 2
        assert "config.json is damaged: " in capsys.readouterr().err
