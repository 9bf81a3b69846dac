import os
from pathlib import Path

import pytest

from mnist_jax.files import write_atomic


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
