"""The benchmarks at toy size: their figures are consistent and described."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import frameworks, output, roofline, test_error, workers
from bench.drawings import drawings, ink
from bench.photos import sets
from bench.photos.kinds import KINDS
from bench.photos.pages import page
from mnist_jax.config.networks import CNN, MLP
from mnist_jax.config.presets import PRESETS
from mnist_jax.data.datasets import load
from mnist_jax.errors import RunError, SpecError

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "bench", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
def test_throughput_measures_every_preset_and_size_on_every_count_of_devices(tmp_path: Path) -> None:
    result = run(
        *("throughput", "--dataset", "digits", "--preset", "mlp-100", "--batch-size", "32"),
        *("--batch-size", "100000", "--devices", "1", "--devices", "2"),
        *("--repeats", "2", "--out", str(tmp_path)),
    )
    rows = result["rows"]
    assert [(row["preset"], row["batch_size"], row["device"], row["dtype"]) for row in rows] == [
        ("mlp-100", 32, f"simulated cpu:{numbers}", dtype)
        for numbers in ("0", "0-1")
        for dtype in ("float32", "bfloat16")
    ]
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1500 / row["epoch_seconds"]["median"])
        assert row["step_microseconds"] == pytest.approx(1e6 * row["epoch_seconds"]["median"] / 47)
        (one,) = [each for each in rows if each["devices"] == 1 and each["dtype"] == row["dtype"]]
        assert row["times_one_device"] == pytest.approx(row["images_per_second"] / one["images_per_second"])
        if row is one:
            assert row["floor"]["seconds"] > 0
            bound = 1e6 * row["floor"]["seconds"]
            assert row["times_floor"] == pytest.approx(row["step_microseconds"] / bound)
        assert row["share_of_peak"] > 0
    assert result["schema"] == 1
    assert {"device", "driver", "load", "versions", "commit", "clock"} <= set(result)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("throughput.json", "throughput.md", "throughput.png")
    }
    assert json.loads((tmp_path / "throughput.json").read_text()) == result


@pytest.mark.slow
def test_population_trains_all_networks_to_the_target() -> None:
    result = run(
        *("population", "--dataset", "digits", "--networks", "1", "--networks", "3", "--target", "0.8"),
        *("--repeats", "1", "--batch-size", "32", "--devices", "1"),
    )
    assert [row["networks"] for row in result["rows"]] == [1, 3]
    for row in result["rows"]:
        assert row["reached"]
        assert row["accuracy"] >= 0.8
        assert row["networks_per_second"] == pytest.approx(row["networks"] / row["seconds"]["median"])


@pytest.mark.slow
def test_a_target_that_is_not_reached_is_reported() -> None:
    result = run(
        *("population", "--dataset", "digits", "--networks", "1", "--target", "1.1", "--repeats", "1"),
        *("--most-epochs", "2"),
    )
    (row,) = result["rows"]
    assert (row["epochs"], row["reached"], row["networks_per_second"]) == (2, False, None)


@pytest.mark.slow
def test_bad_input_gives_one_line() -> None:
    command = [sys.executable, "-m", "bench", "throughput", "--preset", "mlp"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bench: preset must be one of mlp-100")
    assert len(done.stderr.splitlines()) == 1


def test_products_and_operations_of_a_step_by_hand() -> None:
    spec = MLP((100,), ("relu",))
    assert list(roofline.products(spec, 32)) == [
        *((32, 784, 100), (784, 32, 100)),
        *((32, 100, 10), (100, 32, 10), (32, 10, 100)),
    ]
    assert roofline.flops(spec, 32) == 2 * 32 * (2 * 78_400 + 3 * 1_000)


def test_a_convolution_is_the_product_of_its_windows() -> None:
    spec = CNN((6, 16), 5, "average", (), ("same", "valid"))
    assert list(roofline.products(spec, 2)) == [
        *((1568, 25, 6), (25, 1568, 6)),
        *((200, 150, 16), (150, 200, 16), (200, 16, 150)),
        *((2, 400, 10), (400, 2, 10), (2, 10, 400)),
    ]


@pytest.mark.slow
def test_frameworks_reach_similar_accuracies() -> None:
    result = run(
        *("frameworks", "--dataset", "digits", "--peer", "jax, a jitted step in a loop"),
        *("--batch-size", "32", "--repeats", "3"),
    )
    ours, loop = result["rows"]
    assert (ours["peer"], ours["ratio"]) == ("mnist-jax", 1)
    assert loop["ratio_low"] <= loop["ratio"] <= loop["ratio_high"]
    assert loop["versions"]["optax"]
    for row in (ours, loop):
        assert 0.8 < row["test_accuracy"] < 1
        assert row["epoch_seconds"]["low"] > 0


@pytest.mark.nightly
def test_latency_times_single_images_and_batches() -> None:
    result = run(
        *("latency", "--dataset", "digits", "--peer", "onnx runtime", "--preset", "lenet-5", "--repeats", "2")
    )
    assert [row["peer"] for row in result["rows"]] == ["mnist-jax", "onnx runtime"]
    for row in result["rows"]:
        latency, batch = row["latency_seconds"], row["batch_seconds"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] < batch["high"] + latency["p99"]
        assert (latency["calls"], batch["runs"]) == (400, 20)
        assert row["images_per_second"] == pytest.approx(297 / batch["median"])
        assert 0.3 < row["test_accuracy"] < 1


def test_an_unknown_peer_and_a_missing_package_give_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpecError, match=r"peer must be one of mnist-jax, .*; got 'caffe'"):
        frameworks.frameworks(names=["caffe"], repeats=1)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RunError, match=r"pip must be able to install no-such-package; its error: "):
        workers.environment(workers.Baseline("x.py", ("no-such-package",)), tmp_path, sys.executable)


@pytest.mark.nightly
def test_time_to_accuracy_starts_with_the_process(tmp_path: Path) -> None:
    result = run(
        "time-to-accuracy", "--dataset", "digits", "--target", "97", "--seeds", "1", "--out", str(tmp_path)
    )
    assert [row["program"] for row in result["rows"]] == ["one function", "mnist-jax train"]
    for row in result["rows"]:
        assert row["accuracy"] == row["accuracies"][0]
        assert 0.5 < row["accuracy"] < 0.97
        assert not row["reached"]  # not with 1,500 images
        assert row["warm_seconds"]["low"] > 0
        assert row["cold_seconds"]["low"] > 0
    function, command = result["rows"]
    assert function["accuracies"] == pytest.approx(command["accuracies"], abs=0.02)
    assert {path.name for path in tmp_path.iterdir()} == {
        "time_to_accuracy.json",
        "time_to_accuracy.md",
        "time_to_accuracy.png",
    }


def test_the_drawings_are_frozen_and_cover_all_digits() -> None:
    digits = drawings()  # checks their checksum
    assert len(digits) == 215
    for digit in range(10):
        selected = [drawing for drawing in digits if drawing.label == digit]
        assert len(selected) >= 20
        assert len({drawing.way for drawing in selected}) >= 4
    for drawing in digits:
        points = np.concatenate([np.array(stroke) for stroke in drawing.strokes])
        assert points.min() >= 0
        assert points.max() <= 280
        assert (ink(drawing) > 0).any()


@pytest.mark.slow
def test_freehand_counts_correct_predictions(run_dir: Path, tmp_path: Path) -> None:
    result = run("freehand", str(run_dir), "--out", str(tmp_path))
    (row,) = result["rows"]
    assert (row["drawings"], row["run"]) == (215, "mlp-100")
    assert 22 < row["right"] < 215
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}


def test_photographs_are_the_same_on_every_run_and_cover_every_kind() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10_000, 28, 28), np.uint8)
    images[:, :6] = images[:, -6:] = images[:, :, :6] = images[:, :, -6:] = 0
    first = {kind: make(images[0], np.random.default_rng(1)) for kind, make in KINDS.items()}
    assert len(first) == 16
    for kind, picture in first.items():
        assert picture.tobytes() == KINDS[kind](images[0], np.random.default_rng(1)).tobytes()
    working, frozen = (set(sets.digits(name, 10_000).tolist()) for name in ("working", "frozen"))
    assert not working & frozen
    picture, rows = page(images, np.arange(40), np.random.default_rng(2))
    assert [digit for row in rows for digit in row] == list(range(sum(map(len, rows))))
    assert min(picture.size) > 100


@pytest.mark.nightly
def test_the_frozen_photographs_are_those_that_were_fixed(mnist_dir: Path) -> None:
    data = load("mnist", mnist_dir, validation_fraction=1 / 6).validation
    assert data is not None
    for name, expected in sets.SHA256.items():
        assert sets.digest(name, np.asarray(data.images)) == expected


RECIPE = ("test-error", "--dataset", "digits", "--preset", "mlp-100", "--epochs")


@pytest.mark.nightly
def test_networks_are_evaluated_once_and_every_evaluation_is_counted(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    first = run(*RECIPE, "1", *out, "--seeds", "2")
    again = run(*RECIPE, "1", *out, "--seeds", "2", "--first-seed", "1")
    (row,) = first["rows"]
    accuracies = [network["accuracy"] for network in row["networks"]]
    assert row["error"] == pytest.approx(1 - np.mean(accuracies))
    assert row["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert (row["evaluations"], again["rows"][0]["evaluations"]) == (2, 4)
    assert [network["seed"] for network in again["rows"][0]["networks"]] == [0, 1, 2]
    lines = [json.loads(line) for line in (tmp_path / "test_evaluations.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1, 1, 2]
    assert [line["accuracy"] for line in lines[:2]] == accuracies

    (other,) = run(*RECIPE, "2", *out, "--seeds", "1")["rows"]  # another recipe with the same name
    assert (other["epochs"], other["evaluations"], len(other["networks"])) == (2, 5, 1)


@pytest.mark.nightly
def test_networks_are_combined_into_ensembles(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    single, ensemble = run(*RECIPE, "2", *out, "--seeds", "4", "--ensemble", "2")["rows"]
    assert (ensemble["preset"], ensemble["parameters"]) == ("2 x mlp-100", 2 * single["parameters"])
    assert [network["seed"] for network in ensemble["networks"]] == [0, 2]
    assert ensemble["evaluations"] == 2
    assert ensemble["onnx"]
    _, shifted = run(*RECIPE, "2", *out, "--seeds", "2", "--first-seed", "1", "--ensemble", "2")["rows"]
    assert [network["seed"] for network in shifted["networks"]] == [
        1
    ]  # shares a member with each earlier ensemble


@pytest.mark.nightly
def test_timing_does_not_use_the_test_set(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    timed = run(*RECIPE, "3", *out, "--seeds", "0", "--time")
    assert timed["rows"] == []
    assert not (tmp_path / "test_evaluations.jsonl").exists()
    (seconds,) = timed["timed"].values()
    assert seconds > 0
    single, ensemble = run(*RECIPE, "3", *out, "--seeds", "2", "--ensemble", "2")["rows"]
    assert (single["seconds"], ensemble["seconds"]) == (seconds, 2 * seconds)
    (other,) = run(*RECIPE, "2", *out, "--seeds", "1")["rows"]
    assert other["seconds"] is None  # not timed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "3", "--ensemble", "2"], "--ensemble must be 2 or more, and divide --seeds 3; got 2"),
        (["--first-seed", "-1"], "seed must be a whole number from 0"),
        (["--first-seed", "4294967295", "--seeds", "2"], "seed must be a whole number from 0"),
        (["--seeds", "-1"], "seeds must be a whole number"),
    ],
)
def test_bad_options_are_refused(words: list[str], message: str) -> None:
    command = [sys.executable, "-m", "bench", *RECIPE, "1", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


def test_the_published_table_matches_the_presets_and_the_log(mnist_dir: Path) -> None:
    measured = ROOT / "bench" / "results" / "test_error.json"
    result, data = json.loads(measured.read_text()), load("mnist", mnist_dir, validation_fraction=0.0)
    known = {name: test_error._run(name, recipe, None, data) for name, recipe in PRESETS.items()}
    evaluations = test_error.earlier(measured.with_name(test_error.LOG))
    assert test_error._table(evaluations, known, result["timed"]) == result["rows"]
    assert output._markdown(result, test_error.COLUMNS) == measured.with_suffix(".md").read_text()
