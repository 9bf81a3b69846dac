import os
from pathlib import Path

import pytest

from mnist_jax.files import parse_json, read_bytes, write_atomic, write_together


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


def test_the_new_file_replaces_the_old_and_is_as_readable_as_any(tmp_path: Path) -> None:
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
    if Path("/proc/self/status").exists():  # a file of no size, which has content
        with pytest.raises(OSError, match="it must have at most 3 bytes; got more"):
            read_bytes("/proc/self/status", 3)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        for other in (tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(OSError, match="must be an ordinary file; got a pipe, a device or a socket"):
                read_bytes(other, 3)


@pytest.mark.parametrize("depth", [51, 60, 900, 5_000, 100_000])
def test_json_is_nested_as_deep_as_can_be_followed(depth: int) -> None:
    assert parse_json("[" * 49 + "1" + "]" * 49)
    for start, end in (("[", "]"), ('{"a":', "}")):
        with pytest.raises(ValueError, match="it is nested too deeply"):
            parse_json(start * depth + "1" + end * depth)
    for text in ("", "{", "[1,]", b"\xff"):
        with pytest.raises(ValueError):
            parse_json(text)
