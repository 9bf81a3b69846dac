"""The command line in this process: effects and output."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mnist_jax._utils.text import finite
from mnist_jax.cli import app, console, main, reproduce
from mnist_jax.config.presets import PRESETS
from mnist_jax.runs import directory
from mnist_onnx import Classifier

COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]


def test_a_run_directory_is_complete(run_dir: Path) -> None:
    assert {p.name for p in run_dir.iterdir()} == {
        "config.json",
        "history.csv",
        "metrics.json",
        "checkpoint.safetensors",
        "model.onnx",
        "model.json",
    }
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert {
        "dataset": "digits",
        "preset": "mlp-100",
        "seed": 0,
        "parameters": 79_510,
    }.items() <= metrics.items()
    assert [metrics[part]["n"] for part in ("train", "validation", "test")] == [1200, 300, 297]
    assert np.sum(metrics["test"]["confusion"]) == 297
    assert np.trace(metrics["test"]["confusion"]) / 297 == metrics["test"]["accuracy"] > 0.5
    assert metrics["onnx"]["passed"] is True
    assert {"max_abs_difference", "disagreements", "n"} <= set(metrics["onnx"])
    assert metrics["device"].startswith("cpu: ")
    assert {"python", "jax", "flax", "optax", "onnx", "onnxruntime"} <= set(metrics["versions"])
    assert metrics["seconds"] > metrics["seconds_training"] > 0
    with (run_dir / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["loss"]) < float(rows[0]["loss"])
    assert Classifier(run_dir / "model.onnx").metadata["dataset"] == "digits"


def test_the_same_seed_gives_the_same_network_and_another_seed_another(run_dir: Path, tmp_path: Path) -> None:
    sums = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        arguments = [
            "train",
            "--dataset",
            "digits",
            "--preset",
            "mlp-100",
            "--epochs",
            "3",
            "--seed",
            str(seed),
        ]
        assert main([*arguments, "--out", str(out)]) == 0
        sums.append(json.loads((out / "model.json").read_text())["parameters_sha256"])
    assert sums[0] == json.loads((run_dir / "model.json").read_text())["parameters_sha256"] != sums[1]


def test_evaluate_agrees_with_train(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_dir), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    test = directory.read_json(run_dir, directory.METRICS)["test"]
    assert {name: result[name] for name in test} == test
    assert main(["evaluate", str(run_dir)]) == 0
    out = capsys.readouterr().out
    assert f"({round(test['accuracy'] * 297)} of 297)" in out
    assert "recall" in out


def test_export_writes_each_variant_and_verify_proves_it(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_dir / "model.onnx").read_bytes()
    assert main(["export", str(run_dir)]) == 0
    assert (run_dir / "model.onnx").read_bytes() == before  # the same bytes as train wrote
    path = tmp_path / "mine.onnx"
    assert main(["export", str(run_dir), "--input", "float32", "--output", "logits", "--out", str(path)]) == 0
    assert Classifier(path).metadata["output"] == "logits"
    assert main(["verify", str(run_dir)]) == 0
    capsys.readouterr()
    assert main(["verify", str(path), "--run", str(run_dir), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["passed"], result["n"], result["noise"], result["disagreements"]) == (True, 297, 1280, 0)


def test_verify_ends_with_1_where_the_file_differs(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(run_dir / "model.onnx")
    (bias,) = [t for t in model.graph.initializer if t.name == "Dense_1.bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * 0, bias.name))
    onnx.save(model, tmp_path / "mutant.onnx")
    assert main(["verify", str(tmp_path / "mutant.onnx"), "--run", str(run_dir)]) == 1
    assert "DIFFERS FROM JAX" in capsys.readouterr().out


def test_a_nan_difference_is_shown() -> None:
    """JSON has no NaN, and neither a maximum nor a table may hide it."""
    good = {"passed": True, "disagreements": 0, "max_abs_difference": 1e-6}
    bad = finite({"passed": False, "disagreements": 3, "max_abs_difference": float("nan")})
    row = reproduce._row(
        "mlp-100", [{"accuracy": 0.9, "seconds": 1.0, "onnx": proof} for proof in (good, bad)]
    )
    assert row["onnx"] == {"passed": False, "disagreements": 3, "max_abs_difference": None}
    assert reproduce._cells(row)[-1] == "NO"
    assert "max difference not a number" in console.proof({**bad, "n": 1, "noise": 0})


def test_presets_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result) == list(PRESETS)
    assert result["mlp-100"]["epochs"] == 25
    assert main(["presets"]) == 0
    assert "mlp-128-64" in capsys.readouterr().out


@pytest.mark.slow
def test_train_falls_back_to_digits_with_a_warning_and_only_by_default(
    fake_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--epochs", "1"]) == 0
    printed = capsys.readouterr()
    assert "WARNING: training on `digits`, a small built-in data set, instead of MNIST." in printed.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mlp-128-64-digits-")
    assert (
        directory.read(folder).dataset
        == directory.read_json(folder, directory.METRICS)["dataset"]
        == "digits"
    )
    assert "digits" in printed.out
    assert main(["train", "--dataset", "mnist"]) == 2
    assert "mnist is not in" in capsys.readouterr().err
    assert main(["train", "--data-dir", str(fake_mnist), "--epochs", "1", "--out", "mine"]) == 0
    assert directory.read(Path("mine")).dataset == "mnist"
    (fake_mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    assert (
        main(["train", "--data-dir", str(fake_mnist)]) == 2
    )  # damage is an error, not a reason to fall back
    assert "t10k-labels-idx1-ubyte.gz must be" in capsys.readouterr().err


@pytest.mark.slow
def test_reproduce_compares_claims_with_measurements(
    fake_mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = tmp_path / "five.json", tmp_path / "five.md"
    arguments = [
        "reproduce",
        "--seeds",
        "2",
        "--preset",
        "mlp-100-sigmoid",
        "--data-dir",
        str(fake_mnist),
        "--json",
    ]
    assert main([*arguments, "--out", str(outs[0]), "--out", str(outs[1])]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(outs[0].read_text())
    (row,) = result["presets"]
    accuracies = [network["accuracy"] for network in row["networks"]]
    assert [network["seed"] for network in row["networks"]] == [0, 1]
    assert row["mean"] == pytest.approx(np.mean(accuracies))
    assert row["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert (row["worst"], row["best"]) == (min(accuracies), max(accuracies))
    assert row["claim_met"] == (row["mean"] >= 0.975)
    assert row["onnx"]["passed"]
    line = outs[1].read_text().splitlines()[2]
    assert f"| 79,510 | 10 | about 98 % | {100 * row['mean']:.2f} ± {100 * row['std']:.2f} % |" in line
    assert f" | {row['seconds']:.1f} | yes (" in line
    assert main(arguments[:-1]) == 0
    assert "mlp-100-sigmoid" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Example: mnist-jax {command}" in " ".join(capsys.readouterr().out.split())


def test_no_command_shows_the_help_and_version_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "reproduce" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip().count(".") == 2


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from mnist_jax.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jax", "flax", "optax", "onnx", "onnxruntime", "numpy", "sklearn", "tensorflow_datasets"}
    assert not heavy & set(done.stdout.split())


def test_the_help_shows_default_behavior(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: mnist, or digits if unavailable)" in shown
    assert "Learning rate. (default: the optimizer's)" in shown
