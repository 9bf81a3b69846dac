"""Folders of pictures, and paths seen for what they are."""

import gzip
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.own_data import IMAGES, LABELS, PIXEL_NAMES, picture_folder, table, write_idx
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mnist_jax.data as mj
from mnist_jax.data.custom.source import DataSource, load_source, source_from_json
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.formats import npz
from mnist_jax.errors import DatasetError, InputError, MnistJaxError, SpecError


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
        (
            lambda f: DataSource(str(f / "a.csv"), str(f / "a.npz")),
            "a.npz must be csv, as .*csv is; it is npz",
        ),
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
