import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.errors import RunError
from mnist_jax.runs import directory, locking
from mnist_jax.runs.directory import Run

RUN = Run(
    "mine", Config(MLP((5,), ("tanh",))), HyperParams(1e-2, 0.1, 0.2), 3, "digits", "0" * 64, 0.1, "rbg"
)


def test_a_config_survives_a_round_trip(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with directory.create_run_dir(folder, RUN, {"jax": "1"}):
        pass
    assert directory.read(folder) == RUN


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(RunError, match="needs a new or an empty directory"),
        directory.create_run_dir(tmp_path, RUN, {}),
    ):
        pytest.fail("claimed")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with (
        pytest.raises(RunError, match=r"notes\.txt is a file"),
        directory.create_run_dir(tmp_path / "notes.txt", RUN, {}),
    ):
        pytest.fail("claimed")


def test_leftovers_of_a_killed_process_are_ignored(tmp_path: Path) -> None:
    for name in (".config.json.0a1b2c3d", ".checkpoint.safetensors.ffffffff", locking.LOCK):
        (tmp_path / name).write_text("half")
    with directory.create_run_dir(tmp_path, RUN, {}):
        assert {path.name for path in tmp_path.iterdir()} == {directory.CONFIG, locking.LOCK}
    assert {path.name for path in tmp_path.iterdir()} == {directory.CONFIG}


def test_a_directory_with_a_run_says_how_to_resume_it(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    with directory.create_run_dir(folder, RUN, {}):
        pass
    message = re.escape(f"holds a run; resume it: mnist-jax train --resume '{folder}'")
    with pytest.raises(RunError, match=message), directory.create_run_dir(folder, RUN, {}):
        pytest.fail("claimed")
    (folder / directory.CONFIG).rename(folder / ".notes.0a1b2c3d")  # not a temporary file of ours
    with pytest.raises(RunError, match=r"holds other files$"):
        locking.check_new(folder)


def test_only_one_process_gets_a_directory(tmp_path: Path) -> None:
    def attempt(_: int) -> bool:
        try:
            with directory.create_run_dir(tmp_path / "run", RUN, {}):
                return True
        except RunError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


@pytest.mark.parametrize("existed", [False, True])
def test_a_run_that_fails_at_once_leaves_nothing(tmp_path: Path, existed: bool) -> None:
    folder = tmp_path / "run"
    if existed:
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt), directory.create_run_dir(folder, RUN, {}):
        raise KeyboardInterrupt
    assert folder.exists() == existed
    assert not existed or not list(folder.iterdir())


def test_files_of_a_failed_run_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), directory.create_run_dir(tmp_path / "run", RUN, {}):
        directory.write_history(tmp_path / "run", [])
        raise RuntimeError
    assert directory.read(tmp_path / "run") == RUN


def test_an_unwritable_directory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:  # root may write everywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(RunError, match=r"writable directory; .*: Permission denied"),
        directory.create_run_dir(tmp_path / "r", RUN, {}),
    ):
        pytest.fail("claimed")


def test_a_run_that_fails_before_its_first_epoch_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), directory.create_run_dir(tmp_path / "a" / "b" / "c", RUN, {}):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "write_atomic", refuse)
    with (
        pytest.raises(RunError, match=r"writable directory; .*: No space left on device"),
        directory.create_run_dir(tmp_path / "a" / "b", RUN, {}),
    ):
        pytest.fail("claimed")
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match=r"writable directory; .*: Not a directory"),
        directory.create_run_dir(tmp_path / "file" / "run", RUN, {}),
    ):
        pytest.fail("claimed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "must be a run directory, written by `mnist-jax train`; it has no config.json"),
        (b"{", "config.json is damaged"),
        (b"[]", "must hold a JSON object; got list"),
        (b"\xff\xfe", "config.json is damaged"),
        ({"format": 2}, "must have format 3; got 2, of another version of mnist-jax; train again"),
        ({"format": 4}, "must have format 3; got 4"),
        ({"format": "x"}, "must have format 3; got 'x'"),
        (
            {"prng_impl": "rgb"},
            "is damaged: prng_impl must be one of threefry2x32, rbg, .*; got 'rgb'",
        ),
        ({"prng_impl": 3}, "is damaged: prng_impl must be str; got 3"),
        ({"config": {}}, "config must have the fields"),
        ({"hyperparams": {"rate": 1}}, "is damaged"),
        (
            {"hyperparams": {"learning_rate": -1, "weight_decay": 0, "label_smoothing": 0}},
            "learning rate must be a number, above 1e-37; got -1",
        ),
        ({"hyperparams": [1]}, r"hyperparams must have the fields learning_rate, .*; got \[1\]"),
        ({"seed": 10**30}, "seed must be a whole number from 0 to 4294967295; got 1000"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295; got -1"),
        ({"preset": "\ud800"}, "config.json is damaged: .*surrogates not allowed"),
        ({"seed": ...}, "it lacks seed"),
    ],
)
def test_a_directory_without_a_run_is_refused(tmp_path: Path, change: object, message: str) -> None:
    folder = tmp_path / "run"
    with directory.create_run_dir(folder, RUN, {}):
        pass
    path = folder / "config.json"
    if change is None:
        path.unlink()
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        assert isinstance(change, dict)
        values = {**json.loads(path.read_text()), **change}
        path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))
    with pytest.raises(RunError, match=message):
        directory.read(folder)


def test_an_unreadable_file_is_not_reported_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory.create_run_dir(tmp_path / "run", RUN, {}):
        pass

    def refuse(path: Path, _: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match=r"config\.json cannot be read: Permission denied"):
        directory.read(tmp_path / "run")


def test_reopening_removes_only_temporary_files(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with directory.create_run_dir(folder, RUN, {}):
        pass
    kept = {"config.json", ".gitignore", ".notes.0a1b2c3d", ".config.json.swp"}
    for name in (*kept - {"config.json"}, ".checkpoint.safetensors.0a1b2c3d", ".model.json.ffffffff"):
        (folder / name).write_text("")
    with locking.reopen_run_dir(folder):
        assert {path.name for path in folder.iterdir()} == kept | {locking.LOCK}
