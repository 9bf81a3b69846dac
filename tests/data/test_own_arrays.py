"""Arrays of one's own: what is taken, how it is split, and what is refused."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.own_data import IMAGES, LABELS
from hypothesis import given
from hypothesis import strategies as st

import mnist_jax.data as mj
from mnist_jax.data.custom.labels import as_values, encode, names_of
from mnist_jax.data.custom.pixels import as_pixels
from mnist_jax.data.custom.splits import count_shared, stratified
from mnist_jax.data.formats import idx
from mnist_jax.errors import DatasetError, InputError, SpecError


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
