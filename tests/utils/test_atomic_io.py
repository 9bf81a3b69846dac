import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_jax._utils.atomic_io import (
    parse_json,
    read_bytes,
    remove,
    temporaries,
    write_atomic,
    write_together,
)

fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_only_leftovers_of_this_file_are_removed(tmp_path: Path) -> None:
    mine = {".file.0a1b2c3", ".file.0a1b2c3d.swp", ".file.json.0a1b2c3d", ".other.0a1b2c3d", "file.0a1b2c3d"}
    for name in (".file.0a1b2c3d", ".file.ffffffff", *mine):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".file.00000000").mkdir()
    (tmp_path / ".file.11111111").symlink_to("file")
    os.mkfifo(tmp_path / ".file.22222222")  # opening it would block
    write_atomic(tmp_path / "file", b"new")
    kept = {".file.00000000", ".file.11111111", ".file.22222222"}
    assert {path.name for path in tmp_path.iterdir()} == mine | kept | {"file"}


def test_files_locked_by_another_process_are_kept(tmp_path: Path) -> None:
    """A process is killed in `write_atomic`; the next write removes its temporary file."""
    code = (
        "import os, sys, time; from pathlib import Path; "
        "from mnist_jax._utils.atomic_io import write_atomic; "
        "os.fsync = lambda _: (print('writing', flush=True), time.sleep(600)); "
        "write_atomic(Path(sys.argv[1]), b'theirs')"
    )
    path = tmp_path / "file"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        write_atomic(path, b"ours")
        assert len(temporaries(tmp_path)) == 1
        process.kill()
        process.wait()
        write_atomic(path, b"ours again")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_recreated_temporary_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / ".file.0a1b2c3d"
    left.write_bytes(b"half")

    def made_anew(*_: object) -> None:
        left.rename(tmp_path / "removed by another")
        left.write_bytes(b"being written")

    monkeypatch.setattr(fcntl, "flock", made_anew)
    remove([left])
    assert left.read_bytes() == b"being written"


def test_many_writers_of_one_file_all_succeed(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([index]) * 1000 for index in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomic(path, content), contents))
    assert path.read_bytes() in contents
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_system_without_locks_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".file.0a1b2c3d").write_bytes(b"somebody may be writing it")
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / ".file.0a1b2c3d").exists()


def test_the_new_file_replaces_the_old_with_default_permissions(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    other.write_bytes(b"")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode == other.stat().st_mode


def test_several_files_are_all_new_or_all_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    write_together(dict.fromkeys(paths, b"old"))
    sync, calls = os.fsync, []

    def full_at_last(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full_at_last)
    with pytest.raises(OSError, match=r"No space left on device: .*b'"):
        write_together(dict.fromkeys(paths, b"new"))
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"old", b"old"]
    write_together(dict.fromkeys(paths, b"new"))
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"new", b"new"]


def test_ordinary_files_are_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    assert read_bytes(path, 4) == read_bytes(str(path), 5) == b"1234"
    with pytest.raises(OSError, match="it must have at most 3 bytes; got 4"):
        read_bytes(path, 3)
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, 3)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nothing", 3)
    if Path("/proc/self/status").exists():  # a file with content that reports size 0
        with pytest.raises(OSError, match="it must have at most 3 bytes; got more"):
            read_bytes("/proc/self/status", 3)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        for other in (tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(OSError, match="must be an ordinary file; got a pipe, a device or a socket"):
                read_bytes(other, 3)


@pytest.mark.parametrize("depth", [51, 60, 900, 5_000, 100_000])
def test_deeply_nested_json_is_refused(depth: int) -> None:
    assert parse_json("[" * 49 + "1" + "]" * 49)
    for start, end in (("[", "]"), ('{"a":', "}")):
        with pytest.raises(ValueError, match="it is nested too deeply"):
            parse_json(start * depth + "1" + end * depth)
    for text in ("", "{", "[1,]", b"\xff"):
        with pytest.raises(ValueError):
            parse_json(text)
