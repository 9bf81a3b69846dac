"""The command line, in this process: what it does, what it prints, what it says when it is misused."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mnist_jax import checkpoint, runs
from mnist_jax.cli import main
from mnist_jax.presets import PRESETS
from mnist_onnx import Classifier

COMMANDS = ("train", "evaluate", "export", "verify", "predict", "presets", "reproduce")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert (
        main(["train", "--dataset", "digits", "--preset", "mlp-100", "--epochs", "3", "--out", str(folder)])
        == 0
    )
    return folder


def test_a_run_directory_holds_all_there_is_to_know(run_dir: Path) -> None:
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


def test_the_same_seed_gives_the_same_network_and_another_another(run_dir: Path, tmp_path: Path) -> None:
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


def test_evaluate_says_what_train_found(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_dir), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    test = runs.read_metrics(run_dir)["test"]
    assert {name: found[name] for name in test} == test
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
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["n"], found["noise"], found["disagreements"]) == (True, 297, 1280, 0)


def test_verify_ends_with_1_where_the_file_differs(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(run_dir / "model.onnx")
    (bias,) = [t for t in model.graph.initializer if t.name == "Dense_1.bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * 0, bias.name))
    onnx.save(model, tmp_path / "mutant.onnx")
    assert main(["verify", str(tmp_path / "mutant.onnx"), "--run", str(run_dir)]) == 1
    assert "DIFFERS FROM JAX" in capsys.readouterr().out


def test_presets_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(PRESETS)
    assert found["mlp-100"]["epochs"] == 25
    assert main(["presets"]) == 0
    assert "mlp-128-64" in capsys.readouterr().out


def test_train_falls_back_to_digits_loudly_and_only_unasked(
    fake_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--epochs", "1"]) == 0
    printed = capsys.readouterr()
    assert "WARNING: training on the small built-in data set `digits` instead of MNIST" in printed.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mlp-128-64-digits-")
    assert runs.read(folder).dataset == runs.read_metrics(folder)["dataset"] == "digits"
    assert "digits" in printed.out
    assert main(["train", "--dataset", "mnist"]) == 2
    assert "mnist is not in" in capsys.readouterr().err
    assert main(["train", "--data-dir", str(fake_mnist), "--epochs", "1", "--out", "mine"]) == 0
    assert runs.read(Path("mine")).dataset == "mnist"
    (fake_mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    assert (
        main(["train", "--data-dir", str(fake_mnist)]) == 2
    )  # damage is an error, not a reason to fall back
    assert "t10k-labels-idx1-ubyte.gz must be" in capsys.readouterr().err


def test_reproduce_sets_claims_beside_measurements(
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
    assert f"| about 98 % | {100 * row['mean']:.2f} ± {100 * row['std']:.2f} % |" in line
    assert main(arguments[:-1]) == 0
    assert "mlp-100-sigmoid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--preset", "mlp"], "preset must be one of mlp-100, .*; got 'mlp'"),
        (["train", "--dataset", "emnist"], "data set must be one of mnist, .*; got 'emnist'"),
        (["train", "--epochs", "0"], "epochs must be a whole number of at least 1; got 0"),
        (["train", "--epochs", "1.5"], "--epochs.*valid integer"),
        (["train", "--batch-size", "-3"], "batch size must be a whole number of at least 1; got -3"),
        (["train", "--learning-rate", "nan"], "learning rate must be a number, above 0; got nan"),
        (["train", "--learning-rate", "-1"], "learning rate must be a number, above 0; got -1"),
        (["train", "--weight-decay", "-1"], "weight decay must be a number, at least 0; got -1"),
        (["train", "--label-smoothing", "1"], "label smoothing must be a number below 1"),
        (
            ["train", "--validation-fraction", "1", "--dataset", "digits"],
            "validation fraction must be a number below 1, at least 0",
        ),
        (["train", "--seed", "-1"], "seed must be a whole number from 0 to 4294967295; got -1"),
        (
            ["train", "--dataset", "digits", "--batch-size", "5000"],
            r"batch size \(5,000\) must be at most .* \(1,350\)",
        ),
        (["train", "--data-dir", "nowhere"], "the data folder must be a directory .* it does not exist"),
        (["train", "--dataset", "digits", "--out", "/proc/run"], "/proc/run: No such file or directory"),
        (["train", "--epoch", "3"], "No such option.*--epoch"),
        (["trian"], "No such command 'trian'.*train"),
        (["evaluate"], "Missing argument 'RUN_DIR'"),
        (["evaluate", "nowhere"], "nowhere must be a run directory, as `mnist-jax train` makes it"),
        (["export", "nowhere"], "nowhere must be a run directory"),
        (["verify", "nowhere.onnx"], "nowhere.onnx must be a run directory"),
        (["reproduce", "--seeds", "0"], "seeds must be a whole number of at least 1; got 0"),
        (["reproduce", "--preset", "x"], "preset must be one of .*; got 'x'"),
        (["reproduce", "--out", "table.txt"], "--out must name a .json or a .md file; got table.txt"),
        (["reproduce", "--out", "no/table.md"], "in a directory that exists; got no/table.md"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err), printed.err
    lines = [line for line in printed.err.splitlines() if not line.startswith("mlp-128-64 on")]
    assert len(lines) == 1
    assert lines[0].startswith("mnist-jax: ")
    assert not list(tmp_path.rglob("*.*"))


def test_files_of_a_run_that_were_damaged_are_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for path in run_dir.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    data = bytearray((copy / runs.CHECKPOINT).read_bytes())
    data[-1] ^= 1
    (copy / runs.CHECKPOINT).write_bytes(data)
    for command in ("evaluate", "export", "verify"):
        assert main([command, str(copy)]) == 2
        assert "is damaged: its content must have sha256" in capsys.readouterr().err
    model = (run_dir / runs.MODEL).read_bytes()
    for damaged in (model[:1000], b"not ONNX", b""):
        path = tmp_path / "model.onnx"
        path.write_bytes(damaged)
        assert main(["verify", str(path), "--run", str(run_dir)]) == 2
        assert "must be an ONNX file" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none.onnx"), "--run", str(run_dir)]) == 2
    assert "none.onnx must be an ONNX file; it cannot be read: No such file" in capsys.readouterr().err


def test_a_run_directory_is_never_overwritten(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert main(["train", "--dataset", "digits", "--epochs", "1", "--out", str(run_dir)]) == 2
    assert "a run needs a new or an empty directory" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


def test_divergence_ends_with_1_and_keeps_the_last_finite_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--dataset", "digits", "--learning-rate", "1e38", "--out", str(out)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "training left the finite numbers in epoch 1" in error
    assert f"the last finite state is in {out}" in error
    params, _ = checkpoint.load_params(out / runs.CHECKPOINT)
    assert np.isfinite(params["Dense_0"]["kernel"]).all()
    assert not (out / runs.METRICS).exists()


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


def test_a_reader_that_goes_away_is_no_error(run_dir: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mnist_jax.cli", "presets", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    time.sleep(0.1)
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) in (0, 1)


def test_scores_that_are_no_numbers_end_the_run_like_divergence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--dataset", "digits", "--epochs", "1", "--batch-size", "1350"]
    for rate in ("1e15", "1e20"):
        assert main([*arguments, "--learning-rate", rate, "--out", str(tmp_path / rate)]) == 1
        assert "the last finite state is in" in capsys.readouterr().err
    assert main([*arguments, "--learning-rate", "1e39", "--out", str(tmp_path / "x")]) == 2
    assert "learning rate must be a number, above 0; got 1e+39" in capsys.readouterr().err


def test_names_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "[red][/a] :smile:"
    assert main(["train", "--dataset", "digits", "--epochs", "1", "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert main(["evaluate", str(out)]) == 0
    assert str(out) in capsys.readouterr().out


def test_a_config_that_is_not_the_checkpoints_is_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    original = json.loads((copy / runs.CONFIG).read_text())
    for change, message in (
        ({"seed": 4}, "in the checkpoint seed is 0; got 4"),
        ({"hyper": {**original["hyper"], "weight_decay": 0.5}}, "hyper.weight_decay is 0.0; got 0.5"),
        (
            {
                "config": {
                    **original["config"],
                    "model": {**original["config"]["model"], "activations": ["tanh"]},
                }
            },
            "config.model.activations is ['relu']; got ['tanh']",
        ),
        ({"dataset_sha256": "0"}, "in the checkpoint dataset_sha256 is"),
        ({"dataset": 5}, "dataset must be str; got 5"),
        ({"seed": True}, "seed must be int; got True"),
        ({"hyper": {"learning_rate": 10**400}}, "learning rate must be a number, above 0"),
        ({"hyper": {"learning_rate": "0.1"}}, "learning rate must be a number, above 0; got '0.1'"),
    ):
        (copy / runs.CONFIG).write_text(json.dumps({**original, **change}))
        for command in ("evaluate", "export", "verify"):
            assert main([command, str(copy)]) == 2
            assert message in capsys.readouterr().err
    (copy / runs.CONFIG).write_text("[" * 100_000)
    assert main(["evaluate", str(copy)]) == 2
    assert "config.json is damaged" in capsys.readouterr().err


def test_verify_refuses_labels_of_other_classes(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(run_dir / "model.onnx")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, facts | {"labels": json.dumps(list("1023456789"))})
    onnx.save(model, tmp_path / "mutant.onnx")
    assert main(["verify", str(tmp_path / "mutant.onnx"), "--run", str(run_dir)]) == 2
    assert "labels in its metadata must be ['0', '1'" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "PYTHONIOENCODING=ascii"])
def test_closed_or_narrow_streams_are_no_error(run_dir: Path, closed: str) -> None:
    command = f"{sys.executable} -m mnist_jax.cli evaluate {run_dir}"
    line = f"{closed} {command}" if "=" in closed else f"{command} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_default_directory_is_always_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    names = []
    for _ in range(3):
        names.append(runs.fresh("a").name)
        runs.fresh("a").mkdir(parents=True)
    assert names == ["a-now", "a-now-2", "a-now-3"]


def test_an_unusable_cache_is_silent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mnist_jax.cli",
            "train",
            "--dataset",
            "digits",
            "--epochs",
            "1",
            "--out",
            "run",
        ],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 2, done.stderr
