"""Loading: where data is looked for, what is verified, and what is said when it is wrong."""

import gzip
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from mnist_jax import idx, store
from mnist_jax.datasets import Dataset, load
from mnist_jax.errors import DatasetError, DatasetUnavailableError, SpecError

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def unzip(folder: Path) -> None:
    for name in NAMES:
        (folder / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
        (folder / f"{name}.gz").unlink()


def same(a: Dataset, b: Dataset) -> bool:
    parts = ((one.images, one.labels) for data in (a, b) for one in (data.train, data.test))
    arrays = [array for part in parts for array in part]
    return a.sha256 == b.sha256 and all(map(np.array_equal, arrays[:4], arrays[4:]))


def test_gzipped_raw_and_nested_files_are_the_same_data(
    fake_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped = load("mnist", fake_mnist)
    assert zipped.train.images.shape == (1350, 28, 28)
    assert zipped.train.images.dtype == zipped.train.labels.dtype == np.uint8
    nested = tmp_path / "all" / "mnist"
    shutil.copytree(fake_mnist, nested)
    unzip(nested)
    assert same(zipped, load("mnist", nested.parent))
    monkeypatch.setenv("MNIST_JAX_DATA_DIR", str(fake_mnist))
    assert same(zipped, load())


def test_the_second_load_is_a_memory_map_read_in_milliseconds(fake_mnist: Path, tmp_path: Path) -> None:
    load("mnist", fake_mnist)
    start = time.perf_counter()
    data = load("mnist", fake_mnist)
    assert time.perf_counter() - start < 0.1
    assert isinstance(data.train.images.base.base, np.memmap)  # of all of the file's images
    assert same(data, load("mnist"))  # from the cache alone, now that it is there


def test_a_change_in_the_cache_is_noticed_and_mended(fake_mnist: Path, tmp_path: Path) -> None:
    good = load("mnist", fake_mnist)
    expected = np.array(good.train.images)
    cached = tmp_path / "cache" / "mnist-jax" / "mnist" / NAMES[0]
    data = bytearray(cached.read_bytes())
    data[-1000] ^= 255
    cached.unlink()  # the map of the first load keeps the old file
    cached.write_bytes(data)
    np.testing.assert_array_equal(load("mnist", fake_mnist).train.images, expected)


def test_a_cache_that_cannot_be_written_costs_only_time(
    fake_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load("mnist", fake_mnist).train.labels) == 1350


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda data: data[:-1],
            r"must be [\d,]+ bytes with sha256 \w{64}; got [\d,]+ bytes with sha256 \w{64}",
        ),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "with sha256"),
        (lambda data: b"", "got 0 bytes"),
    ],
)
def test_a_wrong_sum_names_the_file_what_was_expected_and_what_came(
    fake_mnist: Path, tmp_path: Path, damage: object, message: str
) -> None:
    path = fake_mnist / f"{NAMES[2]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=message) as refusal:
        load("mnist", fake_mnist)
    assert str(path) in str(refusal.value)
    assert not list(tmp_path.glob("cache/**/.*"))


def test_a_raw_file_with_another_sum_is_refused(fake_mnist: Path) -> None:
    unzip(fake_mnist)
    path = fake_mnist / NAMES[1]
    data = bytearray(path.read_bytes())
    data[8] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        DatasetError, match=r"train-labels-idx1-ubyte must be sha256 \w{64}; got sha256 \w{64}"
    ):
        load("mnist", fake_mnist)


def test_files_of_another_data_set_are_recognised(fake_mnist: Path) -> None:
    with pytest.raises(DatasetError, match="which is train-images-idx3-ubyte of mnist"):
        load("kmnist", fake_mnist)
    unzip(fake_mnist)
    with pytest.raises(DatasetError, match="which is train-images-idx3-ubyte of mnist"):
        load("kmnist", fake_mnist)


def test_raw_files_without_a_pinned_sum_are_checked_by_their_structure(tmp_path: Path) -> None:
    arrays = {
        NAMES[0]: np.zeros((20, 28, 28), np.uint8),
        NAMES[1]: np.arange(20, dtype=np.uint8) % 10,
        NAMES[2]: np.zeros((10, 28, 28), np.uint8),
        NAMES[3]: np.arange(10, dtype=np.uint8),
    }

    def attempt(name: str, array: np.ndarray) -> Dataset:
        for other, good in arrays.items():
            (tmp_path / other).write_bytes(idx.encode(array if other == name else good))
        return load("fashion_mnist", tmp_path)

    assert attempt("", np.zeros(0)).classes[9] == "Ankle boot"
    with pytest.raises(
        DatasetError, match=r"training files do not fit each other: labels must lie in 0..9; got 0..10"
    ):
        attempt(NAMES[1], np.arange(20, dtype=np.uint8) % 11)
    with pytest.raises(
        DatasetError, match=r"test files do not fit each other: .* each of 10 images; got shape \(9,\)"
    ):
        attempt(NAMES[3], np.arange(9, dtype=np.uint8))
    with pytest.raises(DatasetError, match="test images must be 28x28"):
        attempt(NAMES[2], np.zeros((10, 28, 27), np.uint8))
    (tmp_path / NAMES[0]).write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2_000_000_000, 28, 28) + bytes(90))
    with pytest.raises(DatasetError, match=r"must be 1,568,000,000,016 bytes long by its header"):
        load("fashion_mnist", tmp_path)


def test_a_missing_file_is_named(fake_mnist: Path) -> None:
    (fake_mnist / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(
        DatasetError, match=r"all four files of mnist, .*; t10k-labels-idx1-ubyte.gz not found"
    ):
        load("mnist", fake_mnist)


def test_a_data_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"must be a directory .*: it does not exist"):
        load("mnist", tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"must be a directory .*: it is a file"):
        load("mnist", tmp_path / "file")


def test_without_a_network_one_clear_error_comes_soon(fake_mnist: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(DatasetUnavailableError) as refusal:
        load("mnist", tmp_path)
    assert time.perf_counter() - start < 10
    message = str(refusal.value)
    for part in (
        "mnist is not in",
        str(tmp_path),
        "tried http://127.0.0.1:9/ (",
        "--data-dir",
        "MNIST_JAX_DATA_DIR",
    ):
        assert part in message
    assert not list(tmp_path.glob("cache/mnist-jax/mnist/*"))


def test_unknown_names_and_fractions_are_refused() -> None:
    with pytest.raises(
        SpecError, match="data set must be one of mnist, fashion_mnist, kmnist, digits; got 'emnist'"
    ):
        load("emnist")
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(SpecError, match="validation fraction must be a number below 1, at least 0"):
            load("digits", validation_fraction=fraction)
    with pytest.raises(SpecError, match="must leave examples on both sides of 1,500"):
        load("digits", validation_fraction=0.9999)


def test_validation_is_the_end_of_the_training_set_or_drawn_by_seed() -> None:
    whole = load("digits", validation_fraction=0)
    assert whole.validation is None
    last = load("digits", validation_fraction=0.2)
    assert last.validation is not None
    np.testing.assert_array_equal(last.validation.images, whole.train.images[1200:])
    np.testing.assert_array_equal(last.train.labels, whole.train.labels[:1200])
    drawn = load("digits", validation_fraction=0.2, validation_seed=1)
    again = load("digits", validation_fraction=0.2, validation_seed=1)
    assert drawn.validation is not None
    assert again.validation is not None
    np.testing.assert_array_equal(drawn.validation.images, again.validation.images)
    together = np.concatenate([drawn.train.labels, drawn.validation.labels])
    assert not np.array_equal(drawn.validation.labels, last.validation.labels)
    assert np.array_equal(np.bincount(together), np.bincount(whole.train.labels))


def test_digits_are_the_scans_in_mnists_frame(digits: Dataset) -> None:
    scans = sklearn.datasets.load_digits()
    images = np.concatenate([digits.train.images, digits.validation.images, digits.test.images])
    assert images.shape == (1797, 28, 28)
    frame = images.copy()
    frame[:, 4:24, 4:24] = 0
    assert not frame.any()
    # Scaling keeps the ink: 20/8 squared as much of it, at 255/16 the brightness.
    ink, expected = images.sum(axis=(1, 2)), scans.images.sum(axis=(1, 2)) * 255 / 16 * (20 / 8) ** 2
    np.testing.assert_allclose(ink, expected, rtol=0.03)
    np.testing.assert_array_equal(digits.test.labels, scans.target[1500:])
    assert digits.sha256 == "ff9e0a878364260423697637de1cdd2391c675c81a028860391f4bf265c620b7"


def test_several_loads_at_once_do_no_harm(fake_mnist: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        loads = list(pool.map(lambda _: load("mnist", fake_mnist), range(8)))
    assert all(same(loads[0], other) for other in loads)
    assert not list(store.cache_folder().rglob(".*"))
