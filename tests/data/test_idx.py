import struct
from pathlib import Path

import numpy as np
import pytest

from mnist_jax.data.formats import idx
from mnist_jax.errors import DatasetError


def test_decode_and_encode_match_a_file_written_by_hand() -> None:
    data = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])
    assert idx.decode(data, 3).tolist() == [[[1, 2, 3]], [[4, 5, 6]]]
    assert idx.encode(np.array([[[1, 2, 3]], [[4, 5, 6]]], np.uint8)) == data


def test_a_memory_map_equals_the_array(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    path = tmp_path / "file"
    path.write_bytes(idx.encode(array))
    mapped = idx.memory_map(path, 3)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, array)


LABELS = idx.encode(np.arange(10, dtype=np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must begin with the IDX magic number 00000801 .*; got an empty file"),
        (b"\x1f\x8b\x08\x00" + LABELS, "got 1f8b0800"),
        (idx.encode(np.zeros((2, 3), np.uint8)), "got 00000802"),
        (LABELS[:-1], r"must be 18 bytes long by its header \[10\]; got 17 bytes"),
        (LABELS + b"0", "got 19 bytes"),
        (LABELS[:6], "must begin with"),
        (struct.pack(">HBBI", 0, 8, 1, 4_000_000_000) + bytes(90), "must be 4,000,000,008 bytes long"),
    ],
)
def test_errors_for_damaged_files_name_the_file(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=message) as caught:
        idx.memory_map(path, 1)
    assert str(path) in str(caught.value)
    with pytest.raises(DatasetError, match=message):
        idx.decode(data, 1)
