"""The benchmarks at toy size: what they measure they measure rightly, and say how."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import clock, floor, peers, programs, recipes, report
from bench.drawings import drawings, ink
from mnist_jax.datasets import load
from mnist_jax.errors import RunError, SpecError
from mnist_jax.networks import CNN, MLP
from mnist_jax.presets import PRESETS

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "bench", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_train_measures_every_preset_and_size_on_every_device(tmp_path: Path) -> None:
    result = run(
        *("train", "--dataset", "digits", "--preset", "mlp-100", "--batch-size", "32"),
        *("--batch-size", "100000", "--repeats", "2", "--out", str(tmp_path)),
    )
    rows = result["rows"]
    assert [(row["preset"], row["batch_size"], row["device"], row["dtype"]) for row in rows] == [
        ("mlp-100", 32, f"cpu:{number}", dtype) for number in range(2) for dtype in ("float32", "bfloat16")
    ]
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1500 / row["epoch_seconds"]["median"])
        assert row["step_microseconds"] == pytest.approx(1e6 * row["epoch_seconds"]["median"] / 47)
        assert row["floor"]["seconds"] > 0
        assert row["times_floor"] == pytest.approx(1e-6 * row["step_microseconds"] / row["floor"]["seconds"])
        assert row["share_of_peak"] > 0
    assert result["schema"] == 1
    assert {"device", "driver", "load", "versions", "commit", "clock"} <= set(result)
    assert {path.name for path in tmp_path.iterdir()} == {"train.json", "train.md", "train.png"}
    assert json.loads((tmp_path / "train.json").read_text()) == result


def test_many_trains_all_to_the_target() -> None:
    result = run(
        *("many", "--dataset", "digits", "--networks", "1", "--networks", "3", "--target", "0.8"),
        *("--repeats", "1", "--batch-size", "32"),
    )
    assert [row["networks"] for row in result["rows"]] == [1, 3]
    for row in result["rows"]:
        assert row["reached"]
        assert row["accuracy"] >= 0.8
        assert row["networks_per_second"] == pytest.approx(row["networks"] / row["seconds"]["median"])


def test_a_target_out_of_reach_is_said() -> None:
    result = run(
        *("many", "--dataset", "digits", "--networks", "1", "--target", "1.1", "--repeats", "1"),
        *("--most-epochs", "2"),
    )
    (row,) = result["rows"]
    assert (row["epochs"], row["reached"], row["networks_per_second"]) == (2, False, None)


def test_bad_input_is_one_line() -> None:
    command = [sys.executable, "-m", "bench", "train", "--preset", "mlp"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bench: preset must be one of mlp-100")
    assert len(done.stderr.splitlines()) == 1


def test_products_and_operations_of_a_step_as_worked_out_by_hand() -> None:
    spec = MLP((100,), ("relu",))
    assert list(floor.products(spec, 32)) == [
        *((32, 784, 100), (784, 32, 100)),
        *((32, 100, 10), (100, 32, 10), (32, 10, 100)),
    ]
    assert floor.flops(spec, 32) == 2 * 32 * (2 * 78_400 + 3 * 1_000)


def test_a_convolution_is_the_product_of_its_windows() -> None:
    spec = CNN((6, 16), 5, "average", (), ("same", "valid"))
    assert list(floor.products(spec, 2)) == [
        *((1568, 25, 6), (25, 1568, 6)),
        *((200, 150, 16), (150, 200, 16), (200, 16, 150)),
        *((2, 400, 10), (400, 2, 10), (2, 10, 400)),
    ]


def test_times_are_those_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the timed functions move."""
    now = 0.0

    def takes(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(clock.time, "perf_counter", lambda: now)
    times = clock.interleaved({"short": lambda: takes(0.001), "long": lambda: takes(0.01)}, 3)
    assert times["short"] == pytest.approx((0.001, 0.001, 0.001, 3))
    assert times["long"] == pytest.approx((0.01, 0.01, 0.01, 3))
    assert clock.per_call(lambda: takes(0.001)) == pytest.approx(0.001)
    assert clock.per_call(lambda: takes(1e-6)) == pytest.approx(1e-6)


def test_peers_take_turns_and_learn_alike() -> None:
    result = run(
        *("peers", "--dataset", "digits", "--peer", "jax, a jitted step in a loop"),
        *("--batch-size", "32", "--repeats", "3"),
    )
    ours, loop = result["rows"]
    assert (ours["peer"], ours["ratio"]) == ("mnist-jax", 1)
    assert loop["ratio_low"] <= loop["ratio"] <= loop["ratio_high"]
    assert loop["versions"]["optax"]
    for row in (ours, loop):
        assert 0.8 < row["test_accuracy"] < 1
        assert row["epoch_seconds"]["low"] > 0


@pytest.mark.slow
@pytest.mark.long
def test_answers_are_timed_alone_and_by_the_thousand() -> None:
    result = run(
        *("infer", "--dataset", "digits", "--peer", "onnx runtime", "--preset", "lenet-5", "--repeats", "2")
    )
    assert [row["peer"] for row in result["rows"]] == ["mnist-jax", "onnx runtime"]
    for row in result["rows"]:
        latency, batch = row["latency_seconds"], row["batch_seconds"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] < batch["high"] + latency["p99"]
        assert (latency["calls"], batch["runs"]) == (400, 20)
        assert row["images_per_second"] == pytest.approx(297 / batch["median"])
        assert 0.3 < row["test_accuracy"] < 1


def test_an_unknown_peer_and_a_package_that_cannot_be_had_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpecError, match=r"peer must be one of mnist-jax, .*; got 'caffe'"):
        peers.peers(names=["caffe"], repeats=1)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RunError, match=r"pip must be able to install no-such-package; it says: "):
        programs.environment(programs.Rival("x.py", ("no-such-package",)), tmp_path, sys.executable)


@pytest.mark.slow
@pytest.mark.long
def test_a_sprint_is_timed_from_the_start_of_its_process(tmp_path: Path) -> None:
    result = run("accuracy", "--dataset", "digits", "--target", "97", "--seeds", "1", "--out", str(tmp_path))
    assert [row["program"] for row in result["rows"]] == ["one function", "mnist-jax train"]
    for row in result["rows"]:
        assert row["accuracy"] == row["accuracies"][0]
        assert 0.5 < row["accuracy"] < 0.97
        assert not row["reached"]  # not with 1,500 images
        assert row["warm_seconds"]["low"] > 0
        assert row["cold_seconds"]["low"] > 0
    function, command = result["rows"]
    assert function["accuracies"] == pytest.approx(command["accuracies"], abs=0.02)
    assert {path.name for path in tmp_path.iterdir()} == {"accuracy.json", "accuracy.md", "accuracy.png"}


def test_the_drawings_are_frozen_and_of_all_kinds() -> None:
    found = drawings()  # which checks their sum
    assert len(found) == 215
    for digit in range(10):
        mine = [drawing for drawing in found if drawing.label == digit]
        assert len(mine) >= 20
        assert len({drawing.way for drawing in mine}) >= 4
    for drawing in found:
        places = np.concatenate([np.array(stroke) for stroke in drawing.strokes])
        assert places.min() >= 0
        assert places.max() <= 280
        assert (ink(drawing) > 0).any()


def test_freehand_counts_what_a_network_reads(run_dir: Path, tmp_path: Path) -> None:
    result = run("freehand", str(run_dir), "--out", str(tmp_path))
    (row,) = result["rows"]
    assert (row["drawings"], row["run"]) == (215, "mlp-100")
    assert 22 < row["right"] < 215
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}


RECIPE = ("recipes", "--dataset", "digits", "--preset", "mlp-100", "--epochs")


def test_recipes_are_scored_once_each_and_every_look_is_counted(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    first = run(*RECIPE, "1", *out, "--seeds", "2")
    again = run(*RECIPE, "1", *out, "--seeds", "2", "--first-seed", "1")
    (row,) = first["rows"]
    accuracies = [network["accuracy"] for network in row["networks"]]
    assert row["error"] == pytest.approx(1 - np.mean(accuracies))
    assert row["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert (row["looks"], again["rows"][0]["looks"]) == (2, 4)
    assert [network["seed"] for network in again["rows"][0]["networks"]] == [0, 1, 2]
    lines = [json.loads(line) for line in (tmp_path / "test_evaluations.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1, 1, 2]
    assert [line["accuracy"] for line in lines[:2]] == accuracies

    (other,) = run(*RECIPE, "2", *out, "--seeds", "1")["rows"]  # another recipe, of the same name
    assert (other["epochs"], other["looks"], len(other["networks"])) == (2, 5, 1)


def test_recipes_are_joined_to_ensembles(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    alone, together = run(*RECIPE, "2", *out, "--seeds", "4", "--ensemble", "2")["rows"]
    assert (together["preset"], together["parameters"]) == ("2 x mlp-100", 2 * alone["parameters"])
    assert [network["seed"] for network in together["networks"]] == [0, 2]
    assert together["looks"] == 2
    assert together["onnx"]
    _, shifted = run(*RECIPE, "2", *out, "--seeds", "2", "--first-seed", "1", "--ensemble", "2")["rows"]
    assert [network["seed"] for network in shifted["networks"]] == [1]  # shares a member with both before


def test_recipes_are_timed_without_a_look_at_the_test_set(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    timed = run(*RECIPE, "3", *out, "--seeds", "0", "--time")
    assert timed["rows"] == []
    assert not (tmp_path / "test_evaluations.jsonl").exists()
    (seconds,) = timed["timed"].values()
    assert seconds > 0
    alone, together = run(*RECIPE, "3", *out, "--seeds", "2", "--ensemble", "2")["rows"]
    assert (alone["seconds"], together["seconds"]) == (seconds, 2 * seconds)
    (other,) = run(*RECIPE, "2", *out, "--seeds", "1")["rows"]
    assert other["seconds"] is None  # nobody has timed this one


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "3", "--ensemble", "2"], "--ensemble must be 2 or more, and divide --seeds 3; got 2"),
        (["--first-seed", "-1"], "seed must be a whole number from 0"),
        (["--first-seed", "4294967295", "--seeds", "2"], "seed must be a whole number from 0"),
        (["--seeds", "-1"], "seeds must be a whole number"),
    ],
)
def test_recipes_that_cannot_be_are_refused(words: list[str], said: str) -> None:
    command = [sys.executable, "-m", "bench", *RECIPE, "1", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_the_published_recipes_are_the_presets_and_what_the_log_says(mnist_dir: Path) -> None:
    measured = ROOT / "bench" / "results" / "recipes.json"
    result, data = json.loads(measured.read_text()), load("mnist", mnist_dir, validation_fraction=0.0)
    known = {name: recipes._run(name, recipe, None, data) for name, recipe in PRESETS.items()}
    looks = recipes._earlier(measured.with_name(recipes.LOG))
    assert recipes._table(looks, known, result["timed"]) == result["rows"]
    assert report._markdown(result, recipes.COLUMNS) == measured.with_suffix(".md").read_text()
