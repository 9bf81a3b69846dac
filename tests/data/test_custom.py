"""Data sets of one's own: what is taken, how it is split, and what is refused."""

import csv as stdlib_csv
import gzip
import struct
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mnist_jax.data as mj
from mnist_jax.data.custom.labels import as_values, encode, names_of
from mnist_jax.data.custom.pixels import as_pixels
from mnist_jax.data.custom.source import DataSource, load_source, source_from_json
from mnist_jax.data.custom.splits import count_shared, stratified
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.formats import csv, idx, npz
from mnist_jax.errors import DatasetError, InputError, MnistJaxError, SpecError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 28, 28), np.uint8)
LABELS = np.arange(60) % 3


class Tensor:
    """A tensor of another library: DLPack, but no `__array__`."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x[..., None],
        lambda x: x[:, None],
        lambda x: x.reshape(-1, 784),
        lambda x: x.tolist(),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint16),
        lambda x: x.astype(">i4"),
        lambda x: x.astype(np.float64),
        lambda x: x / 255,
        lambda x: (x / 255).astype(np.float32),
        jnp.asarray,
        lambda x: jnp.asarray(x / 255, jnp.bfloat16) if False else jnp.asarray(x / 255, jnp.float32),
        Tensor,
    ],
)
def test_images_of_all_usual_forms_are_the_same(convert: Any) -> None:
    assert np.array_equal(as_pixels(convert(IMAGES)), IMAGES)


def test_binary_images_become_black_and_white() -> None:
    binary = IMAGES > 200
    for form in (binary, binary.astype(int), binary.astype(np.uint8), binary.astype(float)):
        assert np.array_equal(as_pixels(form), binary * np.uint8(255))


def test_a_memory_map_stays_one(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx.encode(IMAGES))
    assert isinstance(as_pixels(idx.read(tmp_path / "images")).base, np.memmap)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 28, 28), np.uint8), "images must show something; all of them are black"),
        (IMAGES[:, :20], "must be 28x28; got 20x28; scale them to fit: resize=True, or --resize"),
        (np.zeros((3, 8, 8)), "must be 28x28; got 8x8"),
        (np.zeros((3, 28, 28, 3)), r"must be gray; got 3 channels; average them: .mean\(axis=-1\)"),
        (np.zeros((3, 785)), r"must be \[n, 28, 28\] or \[n, 784\]; got \[3, 785\]"),
        (np.zeros(3), r"must be \[n, 28, 28\] or \[n, 784\]; got \[3\]"),
        (np.zeros((0, 28, 28)), "must hold at least one image; got none"),
        (
            IMAGES // 16,
            r"must use the range 0..255 or, as floats, 0..1; got 0..15; multiply them by 255 / 15",
        ),
        (IMAGES / 16, r"got 0..15.9375; multiply"),
        (IMAGES - 128.0, r"must lie in 0..255 or, as floats, in 0..1; got -128..127"),
        (IMAGES * np.uint16(257), "got 0..65535; divide them by 257"),
        (np.full((3, 28, 28), np.nan), "must lie in 0..255 or, as floats, in 0..1; got nan..nan"),
        (255 - IMAGES // 4, "must be white on black, .* invert them: invert=True, or --invert"),
        ([[1, 2], [3]], "must be one array; got lists of different lengths"),
        (np.array([["a"]]), "must be numbers; got <U1"),
        ("images.npy", "must be an array; got str"),
        (np.ma.masked_array(IMAGES), "got MaskedArray; fill it first"),
    ],
)
def test_other_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_pixels(images)


def test_inverting_and_resizing() -> None:
    light = 255 - IMAGES // 4
    assert np.array_equal(as_pixels(light, invert=True), IMAGES // 4)
    with pytest.raises(InputError, match="black on white to be inverted; these have dark borders"):
        as_pixels(np.where(np.pad(np.ones((20, 20), bool), 4), IMAGES, 0), invert=True)
    squares = as_pixels(np.kron(IMAGES, np.ones((2, 2), np.uint8)), resize=True)
    assert np.array_equal(squares, IMAGES)
    wide = as_pixels(np.full((1, 14, 56), 100), resize=True)
    assert (wide[0, 10:17] > 90).all()  # centered
    assert not wide[0, :10].any()
    assert not wide[0, 18:].any()
    paper = as_pixels(np.full((1, 14, 56), 250), resize=True, invert=True)
    assert (paper < 10).all()  # the margins are paper, too


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y,
        lambda y: y[:, None],
        lambda y: y.tolist(),
        lambda y: y.astype(float),
        lambda y: y.astype(np.uint8),
        lambda y: np.eye(3)[y],
        lambda y: np.eye(3, dtype=bool)[y],
        jnp.asarray,
    ],
)
def test_labels_of_all_usual_forms_are_the_same(form: Any) -> None:
    values = as_values(form(LABELS))
    known, names = names_of(values, None)
    assert names == ("0", "1", "2")
    assert np.array_equal(encode(values, known), LABELS)


def test_names_of_classes() -> None:
    letters = as_values(np.array(["b", "c", "a"])[LABELS])
    known, names = names_of(letters, None)
    assert names == ("a", "b", "c")
    assert encode(letters, known)[:3].tolist() == [1, 2, 0]
    known, names = names_of(letters, ("c", "b", "a"))
    assert encode(letters, known)[:3].tolist() == [1, 0, 2]
    assert names_of(LABELS + 1, None)[1] == ("1", "2", "3")  # numbered from 1, as EMNIST's letters
    assert names_of(LABELS + 1, ("x", "y", "z"))[1] == ("x", "y", "z")
    assert names_of(np.array([3, 7, 3]), ("three", "seven"))[1] == ("three", "seven")
    assert names_of(np.array(["10", "9"]), None)[1] == ("9", "10")
    many = np.arange(300)
    assert encode(many, names_of(many, None)[0]).dtype == np.uint16


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (
            LABELS * 2,
            None,
            "an example of every class from 0 to 4; got none of 1, 3; if they are no",
        ),
        (LABELS, list("abcd"), "an example of every class; got none of 'd'"),
        (LABELS, list("ab"), "classes must name each of the 3 classes of labels; got 2 names"),
        (LABELS, ["a", "a", "b"], "classes must be 2 to 1,000 names, all different"),
        (np.zeros(60), None, "2 to 1,000 classes; got 1: 0"),
        (np.arange(2000), None, "2 to 1,000 classes; got 2,000"),
        (LABELS + 0.5, None, "must be whole numbers or strings; got 0.5 at index 0"),
        (np.full(60, np.nan), None, "must be whole numbers or strings; got nan at index 0"),
        (np.array(["a", "", "b"]), None, "labels must not be empty; some are"),
        (np.array(["a\x1b[31m", "b"]), None, "names, all different, printable"),
        (np.array(["a", "b"]), ["a", "c"], "labels must be among classes; got 'b'"),
        (np.array(["a", "b"]), ["a", "b", "c"], "an example of every class; got none of 'c'"),
        (np.eye(3)[LABELS] * 0.9, None, r"single 1 in each row; .* for scores: labels.argmax\(axis=1\)"),
        (np.zeros((3, 2, 2)), None, r"must be \[n\], or one-hot \[n, classes\]; got \[3, 2, 2\]"),
        (np.array([2**40, 1]), None, r"whole numbers below 2\*\*31"),
    ],
)
def test_other_labels_are_refused(labels: Any, classes: Any, message: str) -> None:
    with pytest.raises((InputError, DatasetError), match=message):
        names_of(as_values(labels), classes)


@given(
    counts=st.lists(st.integers(2, 60), min_size=2, max_size=8),
    fraction=st.floats(0.01, 0.6),
    seed=st.integers(0, 99),
)
def test_a_stratified_split_gives_each_class_its_share(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    first, second = stratified(labels, fraction, seed, at_least=1)
    assert sorted([*first, *second]) == list(range(len(labels)))
    of_first, of_second = (np.bincount(labels[part], minlength=len(counts)) for part in (first, second))
    assert (of_first >= 1).all()
    assert (of_second >= 1).all()
    assert (np.abs(of_second - np.array(counts) * fraction) <= 1.0001).all()
    again = stratified(labels, fraction, seed, at_least=1)
    assert np.array_equal(first, again[0])


def test_a_class_of_one_example_cannot_be_held_out() -> None:
    with pytest.raises(DatasetError, match=r"at least 2 examples, .* got 1 of class 2"):
        mj.from_arrays(IMAGES[:5], [0, 0, 1, 1, 2])


def test_shared_images_are_counted_and_said() -> None:
    assert count_shared(IMAGES[:30], IMAGES[20:40]) == 10
    with pytest.warns(UserWarning, match="10 of 20 test images are also training images"):
        mj.from_arrays(IMAGES[:30], LABELS[:30], (IMAGES[20:40], LABELS[20:40]))


def test_arrays_become_a_data_set() -> None:
    data = mj.from_arrays(IMAGES, LABELS, classes=["a", "b", "c"], name="letters")
    assert (data.name, data.classes) == ("letters", ("a", "b", "c"))
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (43, 5, 12)
    assert np.bincount(data.test.labels).tolist() == [4, 4, 4]
    everything = np.concatenate([part.images for part in (data.train, data.validation, data.test)])
    assert {image.tobytes() for image in everything} == {image.tobytes() for image in IMAGES}
    same = mj.from_arrays(IMAGES / 255, np.eye(3)[LABELS], classes=["a", "b", "c"], validation_fraction=0)
    assert same.sha256 == data.sha256  # the content's, whatever the form and the share for validation
    for other in ({"seed": 1}, {"test_fraction": 0.3}, {"classes": ["x", "b", "c"]}):
        assert mj.from_arrays(IMAGES, LABELS, **{"classes": ["a", "b", "c"], **other}).sha256 != data.sha256
    given = mj.from_arrays(IMAGES[:30], LABELS[:30], (IMAGES[30:], LABELS[30:]), validation_fraction=0)
    assert given.validation is None
    assert np.array_equal(given.test.images, IMAGES[30:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_fraction": 0}, "test fraction must be a number below 1, above 0; got 0"),
        ({"validation_fraction": 1}, "validation fraction must be .* got 1"),
        ({"validation_fraction": 0.001}, "validation fraction 0.001 must leave examples for validation"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
        ({"name": "\x1b[31m"}, "name must be short and printable"),
        ({"shuffle": True}, "options must be among classes, .*; got 'shuffle'"),
        ({"classes": ["a"]}, "classes must be 2 to 1,000 names"),
    ],
)
def test_other_options_are_refused(options: Any, message: str) -> None:
    with pytest.raises((SpecError, DatasetError), match=message):
        mj.from_arrays(IMAGES, LABELS, **options)


def test_images_and_labels_must_match() -> None:
    with pytest.raises(DatasetError, match="a label for each image; got 60 images and 59 labels"):
        mj.from_arrays(IMAGES, LABELS[1:])
    with pytest.raises(DatasetError, match="test labels must be among those of the training set; got 3"):
        mj.from_arrays(IMAGES, LABELS, (IMAGES[:2], [3, 0]))
    with pytest.raises(InputError, match="test must be a pair of images and labels; got ndarray"):
        mj.from_arrays(IMAGES, LABELS, IMAGES)


# CSV


def table(path: Path, labels: Any = LABELS, images: Any = IMAGES, header: str | None = None) -> Path:
    rows = [
        ",".join([*([] if labels is None else [str(labels[i])]), *map(str, image.ravel().tolist())])
        for i, image in enumerate(images)
    ]
    path.write_text("\n".join([*([] if header is None else [header]), *rows]) + "\n")
    return path


PIXEL_NAMES = ",".join(f"pixel{i}" for i in range(784))


@pytest.mark.parametrize(
    ("labels", "header", "names"),
    [
        (LABELS, f"label,{PIXEL_NAMES}", ("0", "1", "2")),
        (LABELS, None, ("0", "1", "2")),
        (LABELS, ",".join(map(str, range(785))), ("0", "1", "2")),  # of pandas
        (LABELS, ",".join(["label", *map(str, range(784))]), ("0", "1", "2")),
        (LABELS.astype(float), None, ("0", "1", "2")),
        (np.array(list("xyz"))[LABELS], None, ("x", "y", "z")),
        (np.array(list("xyz"))[LABELS], f'"label",{PIXEL_NAMES}', ("x", "y", "z")),
    ],
)
def test_csv_files_of_all_usual_forms(tmp_path: Path, labels: Any, header: str, names: Any) -> None:
    data = mj.from_csv(table(tmp_path / "mine.csv", labels, header=header), validation_fraction=0)
    assert (data.name, data.classes) == ("mine", names)
    expected = mj.from_arrays(IMAGES, labels, validation_fraction=0)
    assert data.sha256 == expected.sha256


def test_more_forms_of_csv(tmp_path: Path) -> None:
    expected = mj.from_arrays(IMAGES, LABELS).sha256
    plain = table(tmp_path / "plain.csv").read_text()
    last = "\n".join(",".join([*row.split(",")[1:], row.split(",")[0]]) for row in plain.split())
    forms = {
        "semicolons.csv": plain.replace(",", ";"),
        "tabs.tsv": plain.replace(",", "\t"),
        "bom.csv": "\ufeff" + plain,
        "crlf.csv": plain.replace("\n", "\r\n"),
        "blank.csv": plain.replace("\n", "\n\n"),
        "quoted.csv": "\n".join(",".join(f'"{n}"' for n in row.split(",")) for row in plain.split()),
        "spaces.csv": plain.replace(",", ", "),
        "last.csv": f"{PIXEL_NAMES},class\n{last}",
        "floats.csv": "\n".join(
            f"{label}," + ",".join(f"{pixel / 255:.6f}" for pixel in image.ravel())
            for label, image in zip(LABELS, IMAGES, strict=True)
        ),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text, newline="")
        assert mj.from_csv(tmp_path / name).sha256 == expected, name
    both = mj.from_csv(
        table(tmp_path / "train.csv", LABELS[:30], IMAGES[:30]),
        table(tmp_path / "test.csv", LABELS[30:], IMAGES[30:]),
    )
    assert both.name == tmp_path.name
    assert np.array_equal(both.test.images, IMAGES[30:])


def test_labels_in_quotes(tmp_path: Path) -> None:
    names = ['say "5"', "zero, null", "plain"]
    for place in (0, 784):
        with (tmp_path / "mine.csv").open("w", newline="") as file:
            writer = stdlib_csv.writer(file)
            for image, label in zip(IMAGES, LABELS, strict=True):
                row = image.ravel().tolist()
                row.insert(place, names[label])
                writer.writerow(row)
        text = (tmp_path / "mine.csv").read_text()
        if place:
            (tmp_path / "mine.csv").write_text(f"{PIXEL_NAMES},label\n{text}")
        data = mj.from_csv(tmp_path / "mine.csv", validation_fraction=0)
        assert data.classes == ("plain", 'say "5"', "zero, null")


def test_rows_without_labels(tmp_path: Path) -> None:
    path = table(tmp_path / "test.csv", None, header=PIXEL_NAMES)
    rows = csv.read(path)
    assert rows.labels is None
    assert np.array_equal(rows.images, IMAGES)
    with pytest.raises(DatasetError, match=r"must have a column named label, .*predict` takes rows without"):
        mj.from_csv(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a row for each image; it is empty"),
        (f"label,{PIXEL_NAMES}\n", "must have a row for each image; it has a header alone"),
        ("1,2,3\n", "must have 784 columns of pixels, 28x28, and one for the label, .* got 3 columns"),
        (f"id,label,{PIXEL_NAMES}\n", "one for the label, first or last; got 786 columns: 'id', 'label'"),
        ("1" + ",0" * 784 + "\n0" + ",0" * 783, "line 2 must have 785 columns as the first; got 784"),
        ("1" + ",0" * 784 + "\n\n0" + ",0" * 785, "line 3 must have 785 columns as the first; got 786"),
        ("1" + ",0" * 783 + ",x", "line 1 must have numbers for pixels; got 'x'"),
        ("1" + ",0" * 783 + ",", "line 1 must have numbers for pixels; got ''"),
        ("1" + ",0" * 783 + ",nan", "must lie in 0..255 or, as floats, in 0..1; got nan..nan"),
        ("1" + ",0" * 783 + ",1e999", "must lie in 0..255"),
        ("1" + ",0" * 783 + ",999\n0" + ",0" * 784, "must lie in 0..255 or, as floats, in 0..1; got 0..999"),
        ("1,255" + ",0" * 783 + "\n" + ",0" * 784, "labels must not be empty"),
        ("1" + ",0" * 784 + "\n1" + ",99" * 784, "2 to 1,000 classes; got 1: 1"),
        ("\x00\x01\x02", "must have 784 columns"),
    ],
)
def test_damaged_csv_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises((DatasetError, InputError), match=message) as caught:
        mj.from_csv(tmp_path / "mine.csv")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe" * 500)
    with pytest.raises(DatasetError, match="must be UTF-8 text; invalid start byte at byte 0"):
        mj.from_csv(tmp_path / "mine.csv")
    (tmp_path / "long.csv").write_text("1," * 600_000)
    with pytest.raises(DatasetError, match="line 1 must have at most 1,048,576 characters; got more"):
        mj.from_csv(tmp_path / "long.csv")
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        mj.from_csv(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        mj.from_csv(tmp_path)


# .npz


@pytest.mark.parametrize(
    "names",
    [
        ("images", "labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x", "y", "x_test", "y_test"),
        ("X", "y", "X_test", "y_test"),
    ],
)
def test_npz_files_with_all_usual_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "mine.npz"
    arrays = IMAGES[:40], LABELS[:40], IMAGES[40:], LABELS[40:, None]
    np.savez_compressed(path, **dict(zip(names, arrays, strict=True)))
    data = mj.from_npz(path, validation_fraction=0)
    assert np.array_equal(data.train.images, IMAGES[:40])
    assert np.array_equal(data.test.labels, LABELS[40:])
    np.savez(path, **dict(zip(names[:2], arrays[:2], strict=True)))
    assert len(mj.from_npz(path).test) == 8


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": IMAGES}, "must hold images and labels, or x_train, .*; got 'a'"),
        ({}, "must hold images and labels, .*; got none"),
        ({"images": IMAGES, "labels": LABELS, "test_images": IMAGES}, "must hold test_labels beside test_im"),
        ({"images": IMAGES, "labels": np.array([{}] * 60)}, "numbers or strings by its header; got object"),
        ({"images": IMAGES, "labels": LABELS[1:]}, "a label for each image; got 60 images and 59 labels"),
        ({"images": IMAGES[:, 1:], "labels": LABELS}, "mine.npz images must be 28x28; got 27x28"),
    ],
)
def test_other_npz_files_are_refused(tmp_path: Path, arrays: Any, message: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises((DatasetError, InputError), match=message):
        mj.from_npz(tmp_path / "mine.npz")


# IDX


def write_idx(folder: Path, **arrays: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (folder / name.replace("__", ".").replace("_", "-")).write_bytes(idx.encode(array))


def test_idx_files_are_found_by_their_names(tmp_path: Path) -> None:
    write_idx(
        tmp_path / "emnist",
        emnist_letters_train_images_idx3_ubyte=IMAGES[:40],
        emnist_letters_train_labels_idx1_ubyte=LABELS[:40] + 1,
        emnist_letters_test_images_idx3_ubyte=IMAGES[40:],
        emnist_letters_test_labels_idx1_ubyte=LABELS[40:] + 1,
    )
    (tmp_path / "emnist" / "emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n3 67 99\n")
    (tmp_path / "emnist" / "emnist-balanced-mapping.txt").write_text("1 49\n2 50\n3 51\n")
    data = mj.from_idx(tmp_path / "emnist", validation_fraction=0, transposed=True)
    assert (data.name, data.classes) == ("emnist-letters", ("Aa", "Bb", "Cc"))
    assert np.array_equal(data.train.images, IMAGES[:40].swapaxes(1, 2))
    assert np.array_equal(data.test.labels, LABELS[40:])
    first = tmp_path / "emnist" / "emnist-letters-train-images-idx3-ubyte"
    assert mj.from_idx(first, validation_fraction=0, transposed=True).sha256 == data.sha256
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    for path in (tmp_path / "emnist").iterdir():
        (zipped / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    named = mj.from_idx(zipped, validation_fraction=0, transposed=True, classes=["Aa", "Bb", "Cc"])
    assert named.sha256 == data.sha256


def test_labels_with_columns_and_of_other_types(tmp_path: Path) -> None:
    write_idx(tmp_path, images=IMAGES)
    columns = np.stack([LABELS, LABELS + 100, LABELS], axis=1).astype(">i4")
    header = struct.pack(">HBBII", 0, 0x0C, 2, 60, 3)
    (tmp_path / "qmnist-labels-idx2-int").write_bytes(header + columns.tobytes())
    data = mj.from_idx(tmp_path / "images")
    assert data.classes == ("0", "1", "2")
    assert data.sha256 == mj.from_arrays(IMAGES, LABELS).sha256
    floats = struct.pack(">HBBIII", 0, 0x0D, 3, 60, 28, 28) + IMAGES.astype(">f4").tobytes()
    (tmp_path / "images").write_bytes(floats)
    assert mj.from_idx(tmp_path / "images").sha256 == data.sha256


def test_idx_files_that_do_not_fit(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", images=IMAGES)
    with pytest.raises(DatasetError, match="one IDX file of 60 labels beside it, named alike; got none"):
        mj.from_idx(tmp_path / "a")
    write_idx(tmp_path / "a", other_labels=LABELS, more_labels=LABELS)
    with pytest.raises(DatasetError, match="named alike; got more-labels, other-labels"):
        mj.from_idx(tmp_path / "a")
    write_idx(tmp_path / "a", more_images=IMAGES)
    with pytest.raises(DatasetError, match="one IDX file of training images; got images, more-images; name"):
        mj.from_idx(tmp_path / "a")
    with pytest.raises(
        DatasetError, match=r"more-images must have a label for each image; got \[60, 28, 28\]"
    ):
        mj.from_idx(tmp_path / "a" / "images", tmp_path / "a" / "more-images")
    with pytest.raises(DatasetError, match=r"must have 3 axes, \[n, 28, 28\]; got \[60\]"):
        mj.from_idx(tmp_path / "a" / "more-labels", tmp_path / "a" / "more-labels")
    whole = (tmp_path / "a" / "images").read_bytes()
    for data, message in (
        (whole[:-1], "must hold 47,040 bytes by its header"),
        (whole + b"x", "must hold 47,040 bytes by its header"),
        (gzip.compress(whole)[:-9], "must be a whole gzip file"),
        (gzip.compress(whole + b"x"), "got more than 47,040 bytes"),
        (whole[:9], "must have a whole IDX header; it ends within it"),
        (b"PNG", "must begin as an IDX file"),
    ):
        (tmp_path / "a" / "damaged").write_bytes(data)
        with pytest.raises(DatasetError, match=message):
            mj.from_idx(tmp_path / "a" / "damaged", tmp_path / "a" / "more-labels")


# Folders of pictures


def picture_folder(folder: Path, count: int = 20, size: int = 28) -> Path:
    for index, name in enumerate(("one", "ten", "two")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.zeros((28, 28), np.uint8)
            pixels[4:24, 6 + 7 * index : 9 + 7 * index] = 255 - number
            Image.fromarray(pixels).resize((size, size)).save(folder / name / f"{number}.png")
    return folder


def test_small_pictures_are_taken_as_they_are(tmp_path: Path) -> None:
    data = mj.from_folder(picture_folder(tmp_path / "words"), validation_fraction=0)
    assert (data.name, data.classes) == ("words", ("one", "ten", "two"))
    assert (len(data.train), len(data.test)) == (48, 12)
    assert np.asarray(data.train.images)[:, 5, 7].max() == 255
    with pytest.raises(InputError, match="black on white to be inverted"):
        mj.from_folder(tmp_path / "words", invert=True)


def test_larger_pictures_are_prepared_or_scaled(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "words", 3, 90)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prepared, strokes at different places become the same
        prepared = mj.from_folder(folder, validation_fraction=0)
        scaled = mj.from_folder(folder, validation_fraction=0, resize=True)
    columns = np.asarray(prepared.train.images).sum(axis=(0, 1))
    assert set(np.flatnonzero(columns)) <= set(range(10, 18))  # centered, as MNIST's
    assert np.asarray(scaled.train.images)[:, 14, 6:9].any()


def test_strokes_on_transparency_are_seen(tmp_path: Path) -> None:
    for index, name in enumerate(("a", "b")):
        (tmp_path / "words" / name).mkdir(parents=True)
        for number in range(5):
            alpha = np.zeros((28, 28), np.uint8)
            alpha[4:24, 6 + 9 * index : 9 + 9 * index] = 255 - number
            picture = Image.merge("RGBA", [Image.new("L", (28, 28))] * 3 + [Image.fromarray(alpha)])
            picture.save(tmp_path / "words" / name / f"{number}.png")
    with pytest.raises(InputError, match="must be white on black"):
        mj.from_folder(tmp_path / "words")
    data = mj.from_folder(tmp_path / "words", invert=True, validation_fraction=0)
    assert np.asarray(data.train.images)[:, 10].max(axis=1).min() > 240


def test_a_test_folder_is_found(tmp_path: Path) -> None:
    picture_folder(tmp_path / "words" / "train", 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture_folder(tmp_path / "words" / "test", 4)
        data = mj.from_folder(tmp_path / "words", validation_fraction=0)
        assert (len(data.train), len(data.test), data.name) == (18, 12, "words")
        other = mj.from_folder(
            tmp_path / "words" / "train", tmp_path / "words" / "test", validation_fraction=0
        )
    assert other.sha256 == data.sha256


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"must hold a folder of pictures .* for each class; got none"):
        mj.from_folder(tmp_path)
    folder = picture_folder(tmp_path / "words", 3)
    (folder / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty must hold pictures of its class; got none; or remove it"):
        mj.from_folder(folder)
    (folder / "empty" / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(
        DatasetError, match=r"all 10 pictures must be readable; 1 are not: .*broken.png must be"
    ):
        mj.from_folder(folder)
    Image.new("L", (60, 60), 255).save(folder / "empty" / "broken.png")
    with pytest.raises(DatasetError, match=r"broken.png: the picture must show .*; or scale all pictures"):
        mj.from_folder(folder)
    with pytest.raises(DatasetError, match="none cannot be read: No such file"):
        mj.from_folder(tmp_path / "none")


# What a path is


def test_a_path_is_seen_for_what_it_is(tmp_path: Path) -> None:
    table(tmp_path / "mine.csv")
    write_idx(tmp_path / "idx", images=IMAGES, labels=LABELS)
    np.savez(tmp_path / "mine.npz", images=IMAGES, labels=LABELS)
    expected = mj.from_arrays(IMAGES, LABELS).sha256
    for name in ("mine.csv", "idx", "idx/images", "mine.npz"):
        assert load_source(DataSource(str(tmp_path / name))).sha256 == expected
    kaggle = tmp_path / "kaggle"
    kaggle.mkdir()
    table(kaggle / "train.csv", header=f"label,{PIXEL_NAMES}")
    table(kaggle / "test.csv", None, header=PIXEL_NAMES)  # without labels: a share is held out
    data: Dataset = load_source(DataSource(str(kaggle)))
    assert (data.name, data.sha256) == ("kaggle", expected)
    assert load_source(DataSource(str(picture_folder(tmp_path / "words", 5)))).classes == (
        "one",
        "ten",
        "two",
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: DataSource(str(f / "none")), "none must be a file or folder with a data set; it does not"),
        (lambda f: DataSource(str(f / "notes.md")), "must be a CSV, .npz or IDX file, or a folder"),
        (lambda f: DataSource(str(f / "a.csv"), transposed=True), "--transposed is for IDX files; .* is csv"),
        (lambda f: DataSource(str(f / "a.npz"), str(f / "a.csv")), "must hold its test set, as test_images"),
        (lambda f: DataSource(""), "path must be a path; got ''"),
        (lambda f: DataSource("a\0"), "path must be a path"),
        (lambda f: DataSource("a", test_fraction=2), "test fraction must be"),
        (
            lambda f: DataSource("a", "b", 0.3),
            "test fraction is for data without a test set; got b",
        ),
        (lambda f: DataSource("a", invert=1), "invert must be true or false; got 1"),
        (lambda f: DataSource("a", seed=True), "seed must be a whole number"),
        (lambda f: DataSource("a", classes=("a",)), "classes must be 2 to 1,000 names"),
    ],
)
def test_other_sources_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    (tmp_path / "notes.md").write_text("no data")
    (tmp_path / "a.csv").write_text("1,2")
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(MnistJaxError, match=message):
        load_source(make(tmp_path))


def test_a_source_is_kept_as_json() -> None:
    source = DataSource("a/b.csv", "c.csv", 0.2, 1, ("x", "y"), True, True, True)
    assert source_from_json(asdict(source)) == source
    with pytest.raises(SpecError, match="data must have the fields classes, invert"):
        source_from_json({"path": "a"})


@given(data=st.binary(max_size=400), suffix=st.sampled_from([".csv", ".npz", ".idx", ".gz", ""]))
def test_random_bytes_are_refused_in_one_line(tmp_path_factory: Any, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("random") / f"file{suffix}"
    path.write_bytes(data)
    with pytest.raises(MnistJaxError) as caught:
        load_source(DataSource(str(path)))
    assert "\n" not in str(caught.value)


@given(position=st.integers(0, 5000), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_files_are_read_or_refused_in_one_line(
    tmp_path_factory: Any, position: int, byte: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    np.savez(folder / "a.npz", images=IMAGES[:6], labels=LABELS[:6])
    write_idx(folder / "idx", images=IMAGES[:6], labels=LABELS[:6])
    (folder / "idx" / "images.gz").write_bytes(gzip.compress((folder / "idx" / "images").read_bytes()))
    table(folder / "a.csv", LABELS[:6], IMAGES[:6])
    for path in (folder / "a.npz", folder / "idx" / "images", folder / "idx" / "images.gz", folder / "a.csv"):
        content = bytearray(path.read_bytes())
        content[position % len(content)] = byte
        path.write_bytes(content[: position % len(content)] if cut else content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_source(DataSource(str(path)), validation_fraction=0)
            except MnistJaxError as error:
                assert "\n" not in str(error)


def test_npz_bombs_are_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for number in range(101):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(DatasetError, match="at most 100 arrays; got 101"):
        npz.read(tmp_path / "many.npz")
