"""Loading of data sets: search, verification, cache, and error messages."""

import gzip
import importlib.util
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from mnist_jax.data import cache
from mnist_jax.data.datasets import Dataset, load
from mnist_jax.data.formats import idx
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


def equal(a: Dataset, b: Dataset) -> bool:
    parts = ((part.images, part.labels) for data in (a, b) for part in (data.train, data.test))
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
    assert equal(zipped, load("mnist", nested.parent))
    monkeypatch.setenv("MNIST_JAX_DATA_DIR", str(fake_mnist))
    assert equal(zipped, load())


def test_the_second_load_is_a_memory_map_without_decompression(
    fake_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("mnist", fake_mnist)

    def unzip(_: bytes) -> bytes:
        raise AssertionError("decompressed again")

    monkeypatch.setattr(gzip, "decompress", unzip)
    data = load("mnist", fake_mnist)
    assert isinstance(data.train.images.base.base, np.memmap)  # of all images in the file
    assert equal(data, load("mnist"))  # now from the cache alone


def test_a_changed_file_in_the_cache_is_detected_and_repaired(fake_mnist: Path, tmp_path: Path) -> None:
    good = load("mnist", fake_mnist)
    expected = np.array(good.train.images)
    cached = tmp_path / "cache" / "mnist-jax" / "mnist" / NAMES[0]
    data = bytearray(cached.read_bytes())
    data[-1000] ^= 255
    cached.unlink()  # the memory map of the first load keeps the old file
    cached.write_bytes(data)
    np.testing.assert_array_equal(load("mnist", fake_mnist).train.images, expected)


def test_load_works_without_a_writable_cache(
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
def test_a_wrong_checksum_error_names_file_expected_and_actual_checksum(
    fake_mnist: Path, tmp_path: Path, damage: object, message: str
) -> None:
    path = fake_mnist / f"{NAMES[2]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=message) as caught:
        load("mnist", fake_mnist)
    assert str(path) in str(caught.value)
    assert not list(tmp_path.glob("cache/**/.*"))


def test_an_uncompressed_file_with_a_wrong_checksum_is_rejected(fake_mnist: Path) -> None:
    unzip(fake_mnist)
    path = fake_mnist / NAMES[1]
    data = bytearray(path.read_bytes())
    data[8] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        DatasetError, match=r"train-labels-idx1-ubyte must be sha256 \w{64}; got sha256 \w{64}"
    ):
        load("mnist", fake_mnist)


def test_files_of_another_data_set_are_identified(fake_mnist: Path) -> None:
    with pytest.raises(DatasetError, match="which is train-images-idx3-ubyte of mnist"):
        load("kmnist", fake_mnist)
    unzip(fake_mnist)
    with pytest.raises(DatasetError, match="which is train-images-idx3-ubyte of mnist"):
        load("kmnist", fake_mnist)


def test_uncompressed_files_without_a_pinned_checksum_are_checked_by_their_structure(tmp_path: Path) -> None:
    arrays = {
        NAMES[0]: np.zeros((20, 28, 28), np.uint8),
        NAMES[1]: np.arange(20, dtype=np.uint8) % 10,
        NAMES[2]: np.zeros((10, 28, 28), np.uint8),
        NAMES[3]: np.arange(10, dtype=np.uint8),
    }

    def attempt(name: str, array: np.ndarray) -> Dataset:
        for other, valid in arrays.items():
            (tmp_path / other).write_bytes(idx.encode(array if other == name else valid))
        return load("fashion_mnist", tmp_path)

    assert attempt("", np.zeros(0)).classes[9] == "Ankle boot"
    with pytest.raises(
        DatasetError, match=r"training files must match each other: labels must lie in 0..9; got 0..10"
    ):
        attempt(NAMES[1], np.arange(20, dtype=np.uint8) % 11)
    with pytest.raises(
        DatasetError, match=r"test files must match each other: .* each of 10 images; got shape \(9,\)"
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


def test_files_under_other_common_names_are_the_same_data(fake_mnist: Path, tmp_path: Path) -> None:
    expected = load("mnist", fake_mnist)

    def moved(zipped: bool, rename: Callable[[str], str], place: str) -> Path:
        root = tmp_path / f"{zipped}-{rename('a-idx')}-{place.replace('/', '-')}"
        shutil.copytree(fake_mnist, root / place)
        if not zipped:
            unzip(root / place)
        for path in list((root / place).iterdir()):
            path.rename(path.with_name(rename(path.name)))
        return root

    for place in ("MNIST/raw", "MNIST", "mnist", "raw", "."):
        for zipped in (True, False):
            root = moved(zipped, lambda name: name.replace("-idx", ".idx"), place)
            assert equal(expected, load("mnist", root))
            assert equal(expected, load("mnist", moved(zipped, str, place)))
    assert equal(expected, load("mnist", tmp_path / "True-a-idx-MNIST-raw" / "MNIST"))
    assert equal(expected, load("mnist", tmp_path / "True-a-idx-MNIST-raw" / "MNIST" / "raw"))
    # A complete set is found even if a folder that is searched earlier holds an incomplete one.
    root = tmp_path / "True-a-idx-raw"
    (root / "mnist").mkdir(exist_ok=True)
    shutil.copy(fake_mnist / f"{NAMES[0]}.gz", root / "mnist")
    assert equal(expected, load("mnist", root))


def test_files_are_identified_by_content_not_by_name(fake_mnist: Path) -> None:
    unzip(fake_mnist)
    images, labels = (fake_mnist / NAMES[index] for index in (0, 2))
    images.rename(fake_mnist / "kept")
    labels.rename(images.with_name("train-images.idx3-ubyte"))
    (fake_mnist / "kept").rename(fake_mnist / "t10k-images.idx3-ubyte")
    with pytest.raises(
        DatasetError, match=r"train-images.idx3-ubyte must be .*, which is t10k-images-idx3-ubyte of mnist"
    ):
        load("mnist", fake_mnist)


def test_files_without_checksum_are_rejected_in_a_folder_named_after_another_data_set(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, shape in zip(NAMES, ((20, 28, 28), (20,), (10, 28, 28), (10,)), strict=True):
        (raw / name).write_bytes(idx.encode(np.zeros(shape, np.uint8)))
    assert len(load("fashion_mnist", tmp_path).test.labels) == 10
    for folder in (raw, raw.parent):
        with pytest.raises(
            DatasetError, match="must be gzipped, so that its checksum identifies kmnist, because"
        ):
            load("kmnist", folder)
    for name in NAMES:  # if both exist, the one with a checksum is read
        (raw / f"{name}.gz").write_bytes(gzip.compress(b"another"))
    with pytest.raises(DatasetError, match=r"ubyte.gz must be [\d,]+ bytes with sha256"):
        load("fashion_mnist", tmp_path)


def npz(folder: Path, **changes: object) -> Path:
    """`fake_mnist` in Keras's format."""
    path, keys = folder / "mnist.npz", ("x_train", "y_train", "x_test", "y_test")
    arrays = {}
    for key, name in zip(keys, NAMES, strict=True):
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
        arrays[key] = idx.decode(content, 3 if "images" in name else 1)
    np.savez_compressed(
        path, **{key: value for key, value in (arrays | changes).items() if value is not None}
    )
    return path


def test_keras_file_is_the_same_data_and_unpacked_once(
    fake_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keras").mkdir()
    npz(fake_mnist).rename(tmp_path / "keras" / "mnist.npz")
    first = load("mnist", tmp_path / "keras")
    monkeypatch.setattr("mnist_jax.data.formats.npz.decode", lambda *_: pytest.fail("unpacked again"))
    again = load("mnist", tmp_path / "keras")
    assert isinstance(again.train.images.base.base, np.memmap)
    shutil.rmtree(tmp_path / "cache")
    assert equal(first, again)
    assert equal(first, load("mnist", fake_mnist))
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_test": None}, "must hold the arrays x_train, y_train, x_test, y_test, as Keras's; got"),
        ({"more": np.zeros(3)}, "must hold the arrays .*; got 'more.npy, x_test.npy, "),
        (
            {"y_test": np.zeros(297, np.int64)},
            r"y_test in .* must be uint8 with 1 axes, .*; got int64 \(297,\)",
        ),
        ({"y_test": np.zeros((297, 1), np.uint8)}, r"must be uint8 with 1 axes, .*; got uint8 \(297, 1\)"),
        ({"y_test": np.array([{}] * 297)}, "must be uint8 with 1 axes, .*; got object"),
        ({"x_test": np.zeros((28, 28, 297), np.uint8).T}, "must be uint8 with 3 axes, in C order"),
        (
            {"y_test": np.zeros(297, np.uint8)},
            r"y_test in .* must be t10k-labels-idx1-ubyte, .* got sha256 \w{64}$",
        ),
        (
            {"y_train": np.zeros(2**26, np.uint8)},
            "y_train in .* must have at most 67,108,864 bytes; got more",
        ),
    ],
)
def test_a_keras_file_that_is_not_mnist_is_rejected(
    fake_mnist: Path, change: dict[str, object], message: str
) -> None:
    path = npz(fake_mnist, **change)
    for name in NAMES:
        (fake_mnist / f"{name}.gz").unlink()
    with pytest.raises(DatasetError, match=message) as caught:
        load("mnist", fake_mnist)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "header",
    [
        "(2**64, 28, 28)",
        "(True,)",
        "{[]: 1}",
        "('",
        "\0",
        "(" * 9_000,
        "(10**400,)",
        "(-1,)",
        "(1 is 2,)",
        "None",
    ],
)
def test_a_malicious_header_in_a_keras_file_is_rejected(fake_mnist: Path, header: str) -> None:
    path = npz(fake_mnist)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {header}, }}\n".encode()
    members["x_train.npy"] = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    for name in NAMES:
        (fake_mnist / f"{name}.gz").unlink()
    with pytest.raises(DatasetError, match=r"x_train in .* must be") as caught:
        load("mnist", fake_mnist)
    assert len(str(caught.value).splitlines()) == 1
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"must be a whole .npz file; it cannot be read"):
        load("mnist", fake_mnist)


@pytest.mark.parametrize(
    "similar",
    [
        "t10k-labels-idx1-ubyte (1).gz",
        "T10K-Labels-IDX1-ubyte",
        "t10k_labels_idx1_ubyte.gz",
        "t10k-labels-idx1-ubyte.gz.part",
        "test-labels-idx1-ubyte.gz",
        "mnist (1).npz",
    ],
)
def test_similar_file_names_are_reported_and_the_network_is_not_tried(
    fake_mnist: Path, similar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_jax.data.cache.fetch", lambda *_: pytest.fail("the network was tried"))
    last = fake_mnist / f"{NAMES[3]}.gz"
    last.rename(fake_mnist / similar)
    with pytest.raises(DatasetError, match=r"t10k-labels-idx1-ubyte.gz not found; it holds ") as caught:
        load("mnist", fake_mnist)
    assert similar in str(caught.value)
    for name in NAMES[:3]:
        (fake_mnist / f"{name}.gz").unlink()
    with pytest.raises(DatasetError, match=rf"not found; it holds {re.escape(similar)}$"):
        load("mnist", fake_mnist)
    (fake_mnist / similar).unlink()
    last.symlink_to(fake_mnist / "gone")
    with pytest.raises(DatasetError, match=r"it holds t10k-labels-idx1-ubyte.gz \(a broken link\)$"):
        load("mnist", fake_mnist)


def test_unrelated_files_in_the_folder_are_ignored(fake_mnist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    (folder / "train-images-idx3-ubyte").mkdir(parents=True)
    for name in ("mnist.onnx", "mnist_notes.txt", "train-labels.csv", "emnist-train-images-idx3-ubyte.gz"):
        (folder / name).write_text("")
    npz(fake_mnist).rename(folder / "mnist.npz")
    with pytest.raises(DatasetUnavailableError):  # nothing there resembles Kuzushiji-MNIST
        load("kmnist", folder)
    (folder / "mnist.npz").unlink()
    with pytest.raises(DatasetUnavailableError):
        load("mnist", folder)


def test_a_data_folder_that_is_no_directory_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"must be a directory .*: it does not exist"):
        load("mnist", tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"must be a directory .*: it is a file"):
        load("mnist", tmp_path / "file")


def test_without_a_network_the_error_says_what_was_tried(fake_mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailableError) as caught:
        load("mnist", tmp_path)
    message = str(caught.value)
    for part in (
        "mnist is not in",
        str(tmp_path),
        "tried http://127.0.0.1:9/ (",
        "--data-dir",
        "MNIST_JAX_DATA_DIR",
    ):
        assert part in message
    assert not list(tmp_path.glob("cache/mnist-jax/mnist/*"))


def test_unknown_names_and_invalid_fractions_are_rejected() -> None:
    with pytest.raises(
        SpecError, match="data set must be one of mnist, fashion_mnist, kmnist, digits; got 'emnist'"
    ):
        load("emnist")
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(SpecError, match="validation fraction must be a number below 1, at least 0"):
            load("digits", validation_fraction=fraction)
    with pytest.raises(SpecError, match="must leave examples for training and validation, of 1,500"):
        load("digits", validation_fraction=0.9999)


def test_validation_is_the_end_of_the_training_set_or_random_by_seed() -> None:
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


def test_digits_are_the_scans_with_mnists_margins(digits: Dataset) -> None:
    scans = sklearn.datasets.load_digits()
    images = np.concatenate([digits.train.images, digits.validation.images, digits.test.images])
    assert images.shape == (1797, 28, 28)
    frame = images.copy()
    frame[:, 4:24, 4:24] = 0
    assert not frame.any()
    # Scaling preserves the mean: (20/8)^2 times as many pixels, at 255/16 times the brightness.
    ink, expected = images.sum(axis=(1, 2)), scans.images.sum(axis=(1, 2)) * 255 / 16 * (20 / 8) ** 2
    np.testing.assert_allclose(ink, expected, rtol=0.03)
    np.testing.assert_array_equal(digits.test.labels, scans.target[1500:])
    assert digits.sha256 == "ff9e0a878364260423697637de1cdd2391c675c81a028860391f4bf265c620b7"


def test_digits_are_read_without_importing_scikit_learn() -> None:
    code = "import sys, mnist_jax; mnist_jax.load('digits'); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_of_a_scikit_learn_that_keeps_them_elsewhere_are_the_same(
    monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert load("digits").sha256 == digits.sha256


def test_concurrent_loads_are_safe(fake_mnist: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        loads = list(pool.map(lambda _: load("mnist", fake_mnist), range(8)))
    assert all(equal(loads[0], other) for other in loads)
    assert not list(cache.cache_dir().rglob(".*"))
