"""Two real processes: the bits of two devices, a kill and a resume, and what can be wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bench.scaling.programs import without_simulation
from mnist_jax.cli import main

TRAIN = ("train", "--dataset", "digits", "--hidden", "16", "--batch-size", "50")


def one_device() -> dict[str, str]:
    """The environment of processes that have one device each, and compile as this one does."""
    return {**os.environ, "XLA_FLAGS": without_simulation(os.environ["XLA_FLAGS"])}


@contextmanager
def launched(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A launch of two processes of one device each."""
    with subprocess.Popen(
        [sys.executable, "-m", "mnist_jax.cli", "launch", "--processes", "2", *arguments],
        env=one_device(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as launcher:
        try:
            yield launcher
        finally:
            launcher.terminate()  # all of its processes end with it


def completed(*arguments: str) -> str:
    """The output of a launch that must succeed."""
    with launched(*arguments) as launcher:
        output, errors = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, errors
    return output


def signaled(run: Path, number: signal.Signals) -> tuple[int, str]:
    """The exit code and the messages of a launch whose second process gets a signal after an epoch."""
    with launched(*TRAIN, "--epochs", "6", "--out", str(run)) as launcher:
        wait_for_epochs(run, 1)
        os.kill(workers(launcher)[1], number)
        _, errors = launcher.communicate(timeout=60)
    return launcher.returncode, errors


def digest(folder: Path) -> str:
    return str(json.loads((folder / "metrics.json").read_text())["parameters_sha256"])


def workers(launcher: "subprocess.Popen[str]") -> dict[int, int]:
    """The process ids of a launcher's processes, by their numbers."""
    found = {}
    for line in subprocess.check_output(["ps", "-ww", "-eo", "pid,ppid,args"], text=True).splitlines()[1:]:
        pid, parent, *words = line.split()
        if int(parent) == launcher.pid and "--process-id" in words:
            found[int(words[words.index("--process-id") + 1])] = int(pid)
    return found


def wait_for_epochs(folder: Path, count: int) -> None:
    for _ in range(1200):
        history = folder / "history.csv"
        if history.exists() and len(history.read_text().splitlines()) > count:
            return
        time.sleep(0.05)
    raise AssertionError("training must have got so far")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of six epochs on two simulated devices."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*TRAIN, "--epochs", "6", "--devices", "2", "--out", str(folder)]) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["device"].startswith("2 of cpu: ")
    return digest(folder)


needs_ps = pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")


@pytest.mark.slow
@needs_ps
def test_a_killed_process_ends_all_and_the_resumed_run_has_the_same_bits(
    undisturbed: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, errors = signaled(run, signal.SIGKILL)
    assert code == 1
    *_, last = errors.strip().splitlines()
    assert last == (
        "mnist-jax: process 1 of 2 was ended by SIGKILL; go on from the last checkpoint: "
        f"mnist-jax launch --processes 2 train --resume {run}"
    )
    assert not [line for line in errors.splitlines() if "Gloo" in line or "error" in line.lower()]
    output = completed("train", "--resume", str(run), "--json")
    assert json.loads(output)["device"].endswith("in 2 processes")
    assert digest(run) == undisturbed


@pytest.mark.nightly
@needs_ps
@pytest.mark.parametrize("seed", range(25))
def test_killed_or_stopped_at_any_moment_it_resumes_to_the_same_bits(
    seed: int, undisturbed: str, tmp_path: Path
) -> None:
    random, run = np.random.default_rng(seed), tmp_path / "run"
    victims = [(0,), (1,), (0, 1)][random.integers(3)]
    number = (signal.SIGKILL, signal.SIGSTOP)[random.integers(2)]
    command = [*TRAIN, "--epochs", "6", "--out", str(run), "--heartbeat-timeout", "10"]
    with launched(*command) as first:
        time.sleep(random.uniform(2, 15))
        found = workers(first)
        for victim in victims:
            if victim in found:
                os.kill(found[victim], number)
        _, errors = first.communicate(timeout=120)
    if first.returncode:
        assert first.returncode == 1
        assert "of 2 was ended by" in errors or "of 2 stopped answering" in errors
    if first.returncode == 0 or (run / "metrics.json").exists():  # it was done before, or about to exit
        assert digest(run) == undisturbed
        return
    if (run / "config.json").exists():
        command = ["train", "--resume", str(run)]
    completed(*command)
    assert digest(run) == undisturbed


@pytest.mark.slow
@needs_ps
def test_a_signal_to_one_process_stops_all_after_the_epoch_and_they_go_on(
    undisturbed: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, errors = signaled(run, signal.SIGINT)
    assert code == 0, errors
    if "stopped after" in errors:  # and not done before
        assert f"of 6 epochs; resume it: mnist-jax train --resume {run}" in errors
        assert digest(run) != undisturbed
    completed("train", "--resume", str(run))
    assert digest(run) == undisturbed


@pytest.mark.slow
def test_processes_share_out_a_sweep_and_the_first_writes_the_same_table(tmp_path: Path) -> None:
    sweep = ["sweep", "--dataset", "digits", "--hidden", "16", "--epochs", "2"]
    sweep += ["--seeds", "2", "--learning-rate", "1e-3,1e-2"]
    assert main([*sweep, "--out", str(tmp_path / "one")]) == 0
    completed(*sweep, "--out", str(tmp_path / "two"))
    one, two = (json.loads((tmp_path / name / "sweep.json").read_text()) for name in ("one", "two"))
    rates, accuracies = (
        [[row[name] for row in table["rows"]] for table in (one, two)]
        for name in ("learning_rate", "accuracies")
    )
    assert rates[0] == rates[1] == [1e-3, 1e-2]
    np.testing.assert_allclose(accuracies[0], accuracies[1], atol=0.01)
    assert one["best"] == two["best"]


@pytest.mark.nightly
def test_early_stopping_is_that_of_two_devices(tmp_path: Path) -> None:
    options = [*TRAIN, "--epochs", "60", "--learning-rate", "0.03", "--early-stopping", "1"]
    assert main([*options, "--devices", "2", "--out", str(tmp_path / "devices")]) == 0
    completed(*options, "--out", str(tmp_path / "processes"))
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("devices", "processes")]
    epochs = [len(history.splitlines()) - 1 for history in histories]
    assert epochs[0] == epochs[1] < 60
    assert digest(tmp_path / "devices") == digest(tmp_path / "processes")


@pytest.mark.nightly
def test_open_mpi_starts_them(undisturbed: str, tmp_path: Path) -> None:
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        assert os.environ.get("CI") != "true", "CI needs Open MPI"
        pytest.skip("Open MPI: install it (Debian's package openmpi-bin)")
    command = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "2"]
    command += [sys.executable, "-m", "mnist_jax.cli", *TRAIN, "--epochs", "6", "--distributed", "--json"]
    command += ["--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=one_device(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"].endswith("in 2 processes")
    assert digest(tmp_path / "run") == undisturbed


@pytest.mark.slow
def test_mistakes_of_the_first_process_end_all_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with launched(*TRAIN, "--out", str(tmp_path / "run")) as started:
        output, errors = started.communicate(timeout=60)
    assert started.returncode == 2
    assert not output
    (line,) = errors.strip().splitlines()
    assert line.endswith("run holds other files")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coordinator", "127.0.0.1:1234"], "belong together; one of them is missing"),
        (["--coordinator", "1234", "--processes", "2", "--process-id", "0"], "must be HOST:PORT; got '1234'"),
        (["--coordinator", "a:70000", "--processes", "2", "--process-id", "0"], "must be HOST:PORT"),
        (
            ["--coordinator", "a:1", "--processes", "2", "--process-id", "2"],
            "process-id must be 0 to 1; got 2",
        ),
        (["--distributed", "--processes", "2"], "--distributed finds the processes; leave out"),
        (["--heartbeat-timeout", "0"], "heartbeat-timeout must be"),
        (["--devices", "none"], "--devices must be all, or a number of at least 1; got 'none'"),
        (["--devices", "9"], "--devices must be at most 8, all that JAX has here; got 9"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "run"], "command must be one of train, sweep; got 'verify'"),
        (["--processes", "0", "train"], "processes must be"),
        (["train", "--coordinator", "127.0.0.1:1"], "--coordinator is given by launch itself"),
    ],
)
def test_launch_takes_what_it_can_run(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", *arguments]) == 2
    assert message in capsys.readouterr().err
