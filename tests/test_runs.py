import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_jax import directories, runs
from mnist_jax.errors import RunError
from mnist_jax.networks import MLP
from mnist_jax.runs import Run
from mnist_jax.specs import Config, Hyper

RUN = Run("mine", Config(MLP((5,), ("tanh",))), Hyper(1e-2, 0.1, 0.2), 3, "digits", "0" * 64, 0.1, "rbg")


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with runs.claim(folder, RUN, {"jax": "1"}):
        pass
    assert runs.read(folder) == RUN


def test_nobody_takes_a_directory_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="needs a new or an empty directory"), runs.claim(tmp_path, RUN, {}):
        pytest.fail("claimed")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(RunError, match="it is a file"), runs.claim(tmp_path / "notes.txt", RUN, {}):
        pytest.fail("claimed")


def test_what_a_killed_process_left_is_nobodys(tmp_path: Path) -> None:
    for name in (".config.json.0a1b2c3d", ".checkpoint.safetensors.ffffffff", directories.LOCK):
        (tmp_path / name).write_text("half")
    with runs.claim(tmp_path, RUN, {}):
        assert {path.name for path in tmp_path.iterdir()} == {runs.CONFIG, directories.LOCK}
    assert {path.name for path in tmp_path.iterdir()} == {runs.CONFIG}


def test_a_directory_with_a_run_says_how_it_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    with runs.claim(folder, RUN, {}):
        pass
    message = re.escape(f"holds a run; go on with it: mnist-jax train --resume '{folder}'")
    with pytest.raises(RunError, match=message), runs.claim(folder, RUN, {}):
        pytest.fail("claimed")
    (folder / runs.CONFIG).rename(folder / ".notes.0a1b2c3d")  # which is nothing of ours
    with pytest.raises(RunError, match=r"holds other files$"):
        directories.check_new(folder)


def test_of_many_that_want_one_directory_one_gets_it(tmp_path: Path) -> None:
    def attempt(_: int) -> bool:
        try:
            with runs.claim(tmp_path / "run", RUN, {}):
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
    with pytest.raises(KeyboardInterrupt), runs.claim(folder, RUN, {}):
        raise KeyboardInterrupt
    assert folder.exists() == existed
    assert not existed or not list(folder.iterdir())


def test_what_a_failed_run_has_written_stays(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), runs.claim(tmp_path / "run", RUN, {}):
        runs.write_history(tmp_path / "run", [])
        raise RuntimeError
    assert runs.read(tmp_path / "run") == RUN


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(
        *_: object, **__: object
    ) -> None:  # root may write everywhere, so nothing real would refuse it
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(RunError, match=r"can be written; .*: Permission denied"),
        runs.claim(tmp_path / "r", RUN, {}),
    ):
        pytest.fail("claimed")


def test_a_run_that_fails_before_its_first_epoch_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), runs.claim(tmp_path / "a" / "b" / "c", RUN, {}):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_atomic", refuse)
    with (
        pytest.raises(RunError, match=r"can be written; .*: No space left on device"),
        runs.claim(tmp_path / "a" / "b", RUN, {}),
    ):
        pytest.fail("claimed")
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match=r"that can be written; .*: Not a directory"),
        runs.claim(tmp_path / "file" / "run", RUN, {}),
    ):
        pytest.fail("claimed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "must be a run directory, as `mnist-jax train` makes it; it has no config.json"),
        (b"{", "config.json is damaged"),
        (b"[]", "must hold a JSON object; got list"),
        (b"\xff\xfe", "config.json is damaged"),
        ({"format": 1}, "must be of format 2; got 1, of another version; train again"),
        ({"format": 3}, "must be of format 2; got 3"),
        ({"format": "x"}, "must be of format 2; got 'x'"),
        (
            {"prng_impl": "rgb"},
            "is damaged: prng_impl must be one of threefry2x32, rbg, .*; got 'rgb'",
        ),
        ({"prng_impl": 3}, "is damaged: prng_impl must be str; got 3"),
        ({"config": {}}, "config must have the fields"),
        ({"hyper": {"rate": 1}}, "is damaged"),
        (
            {"hyper": {"learning_rate": -1, "weight_decay": 0, "label_smoothing": 0}},
            "learning rate must be a number, above 1e-37; got -1",
        ),
        ({"hyper": [1]}, r"hyper must have the fields learning_rate, .*; got \[1\]"),
        ({"seed": 10**30}, "seed must be a whole number from 0 to 4294967295; got 1000"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295; got -1"),
        ({"preset": "\ud800"}, "config.json is damaged: .*surrogates not allowed"),
        ({"seed": ...}, "it lacks seed"),
    ],
)
def test_a_directory_that_is_no_run_is_refused(tmp_path: Path, change: object, message: str) -> None:
    folder = tmp_path / "run"
    with runs.claim(folder, RUN, {}):
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
        runs.read(folder)


def test_a_file_that_may_not_be_read_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.claim(tmp_path / "run", RUN, {}):
        pass

    def refuse(path: Path, _: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match=r"config\.json cannot be read: Permission denied"):
        runs.read(tmp_path / "run")


def test_reopening_takes_away_what_was_half_written_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with runs.claim(folder, RUN, {}):
        pass
    kept = {"config.json", ".gitignore", ".notes.0a1b2c3d", ".config.json.swp"}
    for name in (*kept - {"config.json"}, ".checkpoint.safetensors.0a1b2c3d", ".model.json.ffffffff"):
        (folder / name).write_text("")
    with directories.reopen(folder):
        assert {path.name for path in folder.iterdir()} == kept | {directories.LOCK}
