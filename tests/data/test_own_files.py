"""CSV, `.npz` and IDX files of one's own: every usual form, and what is damaged."""

import csv as stdlib_csv
import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.own_data import IMAGES, LABELS, PIXEL_NAMES, table, write_idx

import mnist_jax.data as mj
from mnist_jax.data.formats import csv
from mnist_jax.errors import DatasetError, InputError


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
        "unnamed.csv": f"{PIXEL_NAMES},digit\n{last}",
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
        (f",label,{PIXEL_NAMES}\n", "'pixel783'; the first numbers the rows: .* in pandas, index=False"),
        ("1" + ",0" * 784 + "\n0" + ",0" * 783, "line 2 must have 785 columns as the first; got 784"),
        ("1" + ",0" * 784 + "\n\n0" + ",0" * 785, "line 3 must have 785 columns as the first; got 786"),
        ("1" + ",0" * 783 + ",x", "line 1 must have numbers for pixels; got 'x'"),
        ("1" + ",0" * 783 + ",", "line 1 must have numbers for pixels; got ''"),
        ("1" + ",0" * 783 + ",nan", "line 1 must have numbers for pixels; got 'nan'"),
        ("1" + ",0" * 783 + ",1e999", "line 1 must have numbers for pixels; got '1e999'"),
        ("1" + ",0" * 783 + ",999\n0" + ",0" * 784, "must lie in 0..255 or, as floats, in 0..1; got 0..999"),
        ("1,255" + ",0" * 783 + "\n" + ",0" * 784, "line 2 must have a label; it is empty"),
        ("1" + ",0" * 784 + "\n1" + ",99" * 784, "2 to 1,000 classes; got 1: 1"),
        (
            "0" + ",99" * 784 + "\n0" + ",88" * 784,
            r"labels \(its first column, since none is named `label`\) must have 2 to",
        ),
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
        (
            {"images": IMAGES, "labels": np.array([{}] * 60)},
            r"numbers or strings; got dtype object; convert it",
        ),
        ({"images": IMAGES, "labels": LABELS[1:]}, "a label for each image; got 60 images and 59 labels"),
        ({"images": IMAGES[:, 1:], "labels": LABELS}, "mine.npz images must be 28x28; got 27x28"),
    ],
)
def test_other_npz_files_are_refused(tmp_path: Path, arrays: Any, message: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises((DatasetError, InputError), match=message):
        mj.from_npz(tmp_path / "mine.npz")


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
