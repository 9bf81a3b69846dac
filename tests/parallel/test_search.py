"""One search by several workers: exactly as many trials as are wanted, and one best network."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_jax.cli import main, tune_workers

optuna = pytest.importorskip("optuna")
sqlalchemy = pytest.importorskip("sqlalchemy")
TUNE = ("tune", "--dataset", "digits", "--hidden", "8", "--epochs", "1", "--trials", "3")


def trials(journal: Path) -> "list[optuna.trial.FrozenTrial]":
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.load_study(study_name="mnist-jax", storage=optuna.storages.JournalStorage(backend))
    return list(study.trials)


def finished(journal: Path) -> int:
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials(journal))


@pytest.mark.slow
def test_two_workers_share_a_search(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mnist_jax.cli", *TUNE, "--storage", str(tmp_path / "a.journal")]
    started = [
        subprocess.Popen(
            [*command, "--out", str(tmp_path / name)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for name in ("one", "two")
    ]
    for worker in started:
        _, errors = worker.communicate(timeout=200)
        assert worker.returncode == 0, errors
    assert finished(tmp_path / "a.journal") == 3
    assert len([name for name in ("one", "two") if (tmp_path / name / "run" / "metrics.json").exists()]) == 1


def test_a_trial_of_a_dead_worker_is_made_up_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal, command = tmp_path / "a.journal", [*TUNE, "--storage", str(tmp_path / "a.journal")]
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.create_study(
        study_name="mnist-jax", storage=optuna.storages.JournalStorage(backend), direction="maximize"
    )
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    study.ask().set_user_attr("worker", f"{socket.gethostname()} {ended.pid}")
    elsewhere = study.ask()
    elsewhere.set_user_attr("worker", "another-machine 1")
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    states = [trial.state.name for trial in trials(journal)]
    assert states == ["FAIL", "RUNNING", "COMPLETE", "COMPLETE"]
    assert "2 of 3 trials are done; another worker trains the best network" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()
    study.tell(elsewhere, 0.0)
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one" / "run" / "metrics.json").exists()
    assert finished(journal) == 3
    assert main([*command, "--epochs", "2", "--out", str(tmp_path / "two")]) == 2
    assert "has a search with epochs 1; got 2; choose another storage" in capsys.readouterr().err


def test_a_worker_elsewhere_has_its_time_to_train_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(direction="maximize")
    study.optimize(lambda _: time.sleep(0.01) or 0.5, n_trials=1)
    claim = {tune_workers.CLAIM: "another-machine 1"}
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs=claim))
    assert not tune_workers.claims_the_best(study, 1)
    monkeypatch.setattr(tune_workers, "LEAST_S", 0.2)  # longer than since the own claim, which is the second
    time.sleep(0.3)
    assert tune_workers.claims_the_best(study, 1)


@pytest.mark.parametrize(
    ("error", "message", "failures", "attempts"),
    [
        (sqlalchemy.exc.IntegrityError, "duplicate key", 2, 3),
        (sqlalchemy.exc.ProgrammingError, "relation exists", 2, 3),
        (sqlalchemy.exc.OperationalError, "Table 'studies' already exists", 2, 3),
        (sqlalchemy.exc.IntegrityError, "duplicate key", 9, tune_workers.ATTEMPTS),
        (sqlalchemy.exc.OperationalError, "connection refused", 9, 1),
    ],
)
def test_workers_that_create_the_tables_at_once_try_again(
    error: type[sqlalchemy.exc.DBAPIError],
    message: str,
    failures: int,
    attempts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def connect(storage: str, **_: object) -> str:
        tried.append(storage)
        if len(tried) <= failures:
            raise error("CREATE TABLE studies", None, Exception(message))
        return "the database"

    monkeypatch.setattr(optuna.storages, "RDBStorage", connect)
    monkeypatch.setattr(tune_workers.time, "sleep", lambda _: None)
    if failures < attempts:
        assert tune_workers._database("postgresql://127.0.0.1/a") == "the database"
    else:
        with pytest.raises(error):
            tune_workers._database("postgresql://127.0.0.1/a")
    assert len(tried) == attempts


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a PostgreSQL of the test's own, from the system's packages."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not versions:
        pytest.skip("needs PostgreSQL")
    pytest.importorskip("psycopg")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # PostgreSQL does not run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, "postgres")

        def call(program: str, *arguments: str) -> None:
            path = [*user, str(versions[-1] / program), *arguments]
            subprocess.run(path, cwd=folder, check=True, stdout=subprocess.DEVNULL)

        call("initdb", "-D", f"{folder}/data", "-U", "me", "--auth", "trust")
        settings = f"-c listen_addresses=127.0.0.1 -c port={port} -k {folder}"
        call("pg_ctl", "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", settings, "-w", "start")
        try:
            yield f"postgresql://me@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")


@pytest.mark.nightly
def test_a_real_postgresql(database: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mnist_jax.cli", *TUNE, "--storage", database, "--json"]
    started = [
        subprocess.Popen([*command, "--out", str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("one", "two", "killed")
    ]
    time.sleep(10)
    started[2].kill()
    outputs = [worker.communicate(timeout=300)[0] for worker in started]
    assert [worker.returncode for worker in started[:2]] == [0, 0]
    again = subprocess.run(
        [*command, "--out", str(tmp_path / "again")], stdout=subprocess.PIPE, text=True, check=False
    )
    results = [json.loads(text) for text in [*outputs[:2], again.stdout]]
    assert max(result["search"]["trials"] for result in results) == 3
    assert any(result["run"] for result in results)
    storage = optuna.storages.RDBStorage(database)
    study = optuna.load_study(study_name="mnist-jax", storage=storage)
    states = [trial.state.name for trial in study.trials]
    storage.remove_session()
    storage.engine.dispose()
    assert states.count("COMPLETE") + states.count("PRUNED") == 3


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("a.db", "--storage must be a .journal file, or the address of a database such as postgresql://"),
        ("none/a.journal", "--storage must be in a folder that exists; got none/a.journal"),
        ("sqlite:///a.db", "--storage must be a .journal file"),
        ("damaged.journal", "damaged.journal must hold a search of tune, or be new; "),
        ("postgresql://me:secret@127.0.0.1:9/none", ""),
    ],
)
def test_other_storages_are_refused(
    storage: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("damaged.journal").write_text("no journal\n")
    assert main([*TUNE, "--storage", storage]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mnist-jax: ")]
    assert message in line
    assert "secret" not in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.journal"]
