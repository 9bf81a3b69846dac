"""Results survive a round trip through files; damaged files are reported by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.results import results_of

from mnist_jax.cli import main
from mnist_jax.errors import RunError
from mnist_jax.runs import directory


@pytest.fixture
def folder(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def test_results_survive_a_round_trip(folder: Path) -> None:
    result, metrics = results_of(folder), json.loads((folder / directory.METRICS).read_text())
    assert result.confusion.tolist() == metrics["test"]["confusion"]
    assert (result.n, result.accuracy, result.loss) == tuple(
        metrics["test"][k] for k in ("n", "accuracy", "loss")
    )
    assert result.onnx == metrics["onnx"]
    assert len(result.history) == metrics["epochs"] == 3
    copy = folder / "copy"
    copy.mkdir()
    directory.write_history(copy, result.history)
    assert (copy / directory.HISTORY).read_bytes() == (folder / directory.HISTORY).read_bytes()


def test_the_interval_is_wilsons(folder: Path) -> None:
    # Wilson's formula for 90 of 100.
    result = results_of(folder)._replace(confusion=np.diag([90] + [0] * 9))
    result.confusion[0, 1] = 10
    assert result.interval == pytest.approx((0.82563, 0.94477), abs=1e-5)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("test", "confusion"), [[1]], "the confusion matrix must be 10 rows of as many whole numbers"),
        (("test", "confusion", 0), [0.5] * 10, "10 rows of as many whole numbers"),
        (("test", "confusion", 0), [1], ""),
        (("test", "confusion", 0, 1), -3, "must count"),
        (("test", "n"), 7, "the confusion matrix must count 7 images; got"),
        (("test", "loss"), "much", "a figure must be a finite number of at least 0; got 'much'"),
        (("test", "loss"), None, ""),
        (("seconds",), float("inf"), "a figure must be a finite number of at least 0; got inf"),
        (("versions",), 3, ""),
        (("onnx",), {}, "it lacks 'passed'"),
        (("onnx", "passed"), "no", "passed must be true or false; got 'no'"),
        (("onnx", "n"), "x", "n must be a whole number of at least 0; got 'x'"),
        (("onnx", "noise"), -1, "noise must be a whole number of at least 0; got -1"),
        (("onnx", "max_abs_difference"), "x", ""),
        (("seconds",), True, "a figure must be a finite number of at least 0; got True"),
        (("seconds",), 10**400, ""),
        (("device",), ["cpu"], "a text must be short and printable; got"),
        (("onnx",), None, ""),
        (("test",), [], ""),
    ],
)
def test_damaged_metrics_are_named(
    folder: Path, path: tuple[str | int, ...], value: object, message: str
) -> None:
    file = folder / directory.METRICS
    values = json.loads(file.read_text())
    *above, last = path
    place = values
    for name in above:
        place = place[name]
    place[last] = value
    file.write_text(json.dumps(values))
    with pytest.raises(RunError, match=rf"metrics\.json is damaged: .*{message}"):
        results_of(folder)


@pytest.mark.parametrize("name", ["test", "onnx", "device", "versions", "seconds"])
def test_missing_entries_are_named(folder: Path, name: str) -> None:
    file = folder / directory.METRICS
    values = json.loads(file.read_text())
    del values[name]
    file.write_text(json.dumps(values))
    with pytest.raises(RunError, match=rf"metrics\.json is damaged: it lacks '{name}'"):
        results_of(folder)


@pytest.mark.parametrize(
    "text", ["", "epoch,loss\n", "a\nb\n", "epoch,loss\n1,\xff\n", 'epoch,"\n', "epoch\nx\n"]
)
def test_a_damaged_history_is_named(folder: Path, text: str) -> None:
    (folder / directory.HISTORY).write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match=r"history\.csv is damaged: "):
        results_of(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n2,", "\n3,"),
        ("\n2,", "\n1,"),
        ("\n1,0", "\n1,1e300"),
        ("\n1,0", "\n1,-0"),
        (",0.", ",7."),
        ("\n3,", "\n\n4,"),
    ],
)
def test_an_invalid_history_is_named(folder: Path, old: str, new: str) -> None:
    text = (folder / directory.HISTORY).read_text()
    assert old in text or old == "\n1,0"
    (folder / directory.HISTORY).write_text(text.replace(old, new))
    if text.replace(old, new) != text:
        with pytest.raises(RunError, match=r"history\.csv is damaged: "):
            results_of(folder)


def test_a_truncated_history_is_named(folder: Path) -> None:
    text = (folder / directory.HISTORY).read_text()
    (folder / directory.HISTORY).write_text("\n".join(text.splitlines()[:2]) + "\n")
    with pytest.raises(RunError, match=r"it must have the 3 epochs of metrics\.json; got 1"):
        results_of(folder)


def test_metrics_and_onnx_file_have_the_same_parameter_checksum(folder: Path) -> None:
    metrics, card = (json.loads((folder / name).read_text()) for name in (directory.METRICS, "model.json"))
    assert metrics["parameters_sha256"] == card["parameters_sha256"]


@pytest.fixture
def killed(folder: Path) -> Path:
    """A killed run: the checkpoint is of epoch 4, the scores are of epoch 3."""
    scores = (folder / directory.METRICS).read_bytes()
    assert main(["train", "--resume", str(folder), "--epochs", "4"]) == 0
    (folder / directory.METRICS).write_bytes(scores)
    return folder


@pytest.mark.slow
def test_scores_of_an_earlier_state_are_nowhere_told_as_this_ones(
    killed: Path, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        RunError,
        match=r"must have the scores of the network in .*; it has those of another one, or .*; to score it",
    ):
        results_of(killed)
    assert main(["export", str(killed), "--out", str(tmp_path / "one.onnx")]) == 0
    assert "test_accuracy" not in json.loads((tmp_path / "one.json").read_text())
    capsys.readouterr()
    assert main(["ensemble", str(killed), str(run_dir), "--out", str(tmp_path / "two.onnx"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["members"]
    assert (first["test"], first["validation"]) == (None, None)
    assert second["test"] == results_of(run_dir).accuracy
    for words in (["report", str(killed)], ["compare", str(killed), str(run_dir)]):
        assert main([*words, "--out", str(tmp_path / "page.html")]) == 2
        assert f"to score it: mnist-jax train --resume {killed}\n" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()

    assert main(["train", "--resume", str(killed)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(killed), "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert main(["export", str(killed), "--out", str(tmp_path / "one.onnx")]) == 0
    assert float(json.loads((tmp_path / "one.json").read_text())["test_accuracy"]) == accuracy


def test_scores_without_a_checksum_are_refused(folder: Path) -> None:
    metrics = json.loads((folder / directory.METRICS).read_text())
    del metrics["parameters_sha256"]
    (folder / directory.METRICS).write_text(json.dumps(metrics))
    with pytest.raises(RunError, match="it has those of another one"):
        results_of(folder)
    assert main(["train", "--resume", str(folder)]) == 0
    assert len(results_of(folder).history) == 3


def test_an_unfinished_run_is_refused(folder: Path) -> None:
    (folder / directory.METRICS).unlink()
    with pytest.raises(RunError, match=r"it has no metrics\.json"):
        results_of(folder)
