"""Arrays from elsewhere: taken where it is clear what they are, else refused; and examples as a container."""

import functools
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import mnist_jax
import mnist_onnx
from mnist_jax import Config, Examples, HeldOut, Hyper, metrics, plots, robustness
from mnist_jax.augment import deform
from mnist_jax.checks import as_images, as_labels, check_pixels
from mnist_jax.datasets import Dataset
from mnist_jax.deformations import Deformation
from mnist_jax.errors import ImageError, InputError, MnistJaxError
from mnist_jax.inspection import saliency, silent_units
from mnist_jax.networks import CNN, MLP, Ensemble, Spec
from mnist_jax.prepare import prepare
from mnist_onnx.quantize import cost, quantize

pytestmark = pytest.mark.usefixtures("unchecked")
KEY = jax.random.key(0)
SPEC = MLP((5,), ("relu",))
CONFIG = Config(SPEC, epochs=1, batch_size=4)


class Column:
    """A stand-in for a table's column: an array under it, indexed by names that are no places."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.values[::-1][rows]


class Unreadable(Column):
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("on\nanother device")


@pytest.fixture(scope="module")
def some(digits: Dataset) -> SimpleNamespace:
    params = mnist_jax.init(SPEC, KEY)
    model = mnist_onnx.to_onnx(SPEC, params)
    images, labels = np.ascontiguousarray(digits.test.images[:8]), np.array(digits.test.labels[:8])
    return SimpleNamespace(images=images, labels=labels, params=params, model=model)


IMAGES: dict[str, Callable[[np.ndarray], Any]] = {
    "column": Column,
    "read-only": lambda images: np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),
    "columns first": np.asfortranarray,
    "strided": lambda images: np.repeat(images, 2, axis=2)[:, :, ::2],
    "JAX's": jnp.asarray,
}
LABELS: dict[str, Callable[[np.ndarray], Any]] = {
    "big-endian": lambda labels: labels.astype(">i4"),
    "column": lambda labels: Column(labels.astype(int)),
    "uint64": lambda labels: labels.astype(">u8"),
    "backwards": lambda labels: labels[::-1].copy()[::-1],
    "JAX's": jnp.asarray,
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_any_layout_give_the_same(kind: str, some: SimpleNamespace) -> None:
    images, answer = IMAGES[kind](some.images), functools.partial(mnist_jax.predict, SPEC, some.params)
    functions: list[Callable[[Any], Any]] = [
        answer,
        functools.partial(mnist_jax.apply, SPEC, some.params),
        functools.partial(mnist_jax.activations, SPEC, some.params),
        functools.partial(saliency, SPEC, some.params),
        lambda taken: quantize(some.model, "int8-static", images=taken).SerializeToString(),
        lambda taken: mnist_jax.evaluate(SPEC, some.params, HeldOut(taken, some.labels)),
        lambda taken: robustness.robustness(answer, taken, some.labels, KEY)[0].accuracies,
    ]
    for function in functions:
        jax.tree.map(np.testing.assert_array_equal, function(images), function(some.images))


def test_a_file_is_proven_on_images_of_any_kind(some: SimpleNamespace) -> None:
    assert mnist_onnx.parity(SPEC, some.params, some.model, Column(some.images)).passed  # type: ignore[arg-type]


def test_fractions_of_another_byte_order_are_fractions(some: SimpleNamespace) -> None:
    native = (some.images / 255).astype(np.float32)
    found = mnist_jax.apply(SPEC, some.params, native.astype(">f4"))
    np.testing.assert_array_equal(found, mnist_jax.apply(SPEC, some.params, native))
    turned = deform(Deformation(rotate=9), KEY, native[0].astype(">f4"))
    np.testing.assert_array_equal(turned, deform(Deformation(rotate=9), KEY, native[0]))


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_of_integer_give_the_same(kind: str, some: SimpleNamespace) -> None:
    logits = mnist_jax.apply(SPEC, some.params, some.images)
    model = some.model.SerializeToString()
    functions: list[Callable[[Any], Any]] = [
        lambda taken: mnist_jax.evaluate(SPEC, some.params, HeldOut(some.images, taken)),
        lambda taken: mnist_jax.fit(CONFIG, Examples(some.images, taken), key=KEY).params,
        lambda taken: metrics.cross_entropy("softmax", logits, taken),
        lambda taken: metrics.confusion_matrix(taken, some.labels),
        lambda taken: metrics.calibration(jax.nn.softmax(logits), taken),
        lambda taken: cost(model, model, HeldOut(some.images, taken)),
    ]
    labels = LABELS[kind](some.labels)
    for function in functions:
        jax.tree.map(np.testing.assert_array_equal, function(labels), function(some.labels))


def test_a_table_s_column_trains_like_its_array(some: SimpleNamespace) -> None:
    columns = [Column(some.labels.astype(np.int64))]
    try:
        import pandas as pd
    except ImportError:
        pass
    else:
        columns.append(pd.Series(some.labels.astype(np.int64), index=np.arange(8)[::-1]))
    for column in columns:
        examples = Examples(some.images, column)
        np.testing.assert_array_equal(examples[2:5].labels, some.labels[2:5])
        np.testing.assert_array_equal(examples[[5, 0]].labels, some.labels[[5, 0]])
        many = mnist_jax.fit_many(CONFIG, examples, examples, keys=jax.random.split(KEY, 2))
        assert len(many.histories) == 2


REFUSED: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "masked": (np.ma.masked_array, r"must be an array of shape .*; got MaskedArray; fill it first: images"),
    "a list": (lambda images: images.tolist(), r"got list; convert it first: np.asarray\(images\)"),
    "objects": (lambda images: images.astype(object), "of numbers; got one of objects"),
    "unreadable": (Unreadable, "got Unreadable, which NumPy cannot read: on another device"),
    "float64": (lambda images: images / 255, r"got float64; .* in 0..1: images.astype\(np.float32\)"),
    "float16": (lambda images: (images / 255).astype(np.float16), "got float16; convert what lies in 0..1"),
    "bool": (lambda images: images > 99, "got bool; convert what lies in 0..1"),
    "int64": (lambda images: images.astype(int), r"in 0..255: images.astype\(np.uint8\)"),
    "int16": (lambda images: images.astype(np.int16) - 128, r"got int16 in -128..127; scale them to 0..1"),
    "complex": (lambda images: images * 1j, "got complex128$"),
    "one number": (lambda _: np.uint8(3), r"got shape \(\)"),
    "a type": (lambda _: np.ndarray, "must be an array of shape .*; got type"),
    "none": (lambda _: None, "got NoneType"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_images_that_are_unclear_are_refused_by_kind(kind: str, some: SimpleNamespace) -> None:
    make, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as refusal:
        as_images(make(some.images))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("low", "high", "hint"),
    [
        (0, 255, "0..255; divide by 255, or pass the uint8 pixels as they are"),
        (-0.4242, 2.8215, "-0.4242..2.8215; pass raw pixels, .*, not standardized ones"),
        (-1, 1, "-1..1; pass raw pixels"),
        (0, 16, "0..16; pass raw pixels"),
        (0, 300, "0..300; pass raw pixels"),
        (0, np.nan, "nan..nan; pass raw pixels"),
    ],
)
def test_pixels_out_of_range_get_the_remedy_that_suits_them(
    low: float, high: float, hint: str, some: SimpleNamespace
) -> None:
    images = np.zeros((2, 28, 28), np.float32)
    images[0, 0, :2] = low, high
    for pixels in (images, jnp.asarray(images)):
        with pytest.raises(InputError, match=hint):
            check_pixels(pixels)
        with pytest.raises(InputError, match=hint):
            mnist_jax.predict(SPEC, some.params, pixels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(10)[:8], r"got shape \(8, 10\); if they are one-hot, pass labels.argmax\(axis=1\)"),
        (np.zeros((8, 1), int), r"got shape \(8, 1\); pass labels\[:, 0\]"),
        (np.zeros(8), r"got float64; if they are whole numbers, pass labels.astype\(np.int32\)"),
        (np.zeros(8, int).tolist(), r"got list; convert it first: np.asarray\(labels\)"),
        (np.ma.masked_array(np.zeros(8, int)), r"got MaskedArray; fill it first: labels.filled\(0\)"),
        (np.array(list("01234567")), "got <U1"),
        (np.full(8, 10), "must lie in 0..9; got 10..10"),
        (jnp.full(8, -1), "must lie in 0..9; got -1..-1"),
    ],
)
def test_labels_that_are_unclear_get_the_line_that_converts_them(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_labels(labels, 8)
    with pytest.raises(InputError, match=message.replace("labels", "predicted")):
        metrics.confusion_matrix(labels, np.zeros(8, int))
    with pytest.raises(InputError, match=message):
        metrics.cross_entropy("softmax", jnp.zeros((8, 10)), labels)


def test_an_array_that_a_traced_function_has_in_it_is_looked_at(some: SimpleNamespace) -> None:
    held = jax.device_put(HeldOut(some.images, some.labels))
    found = jax.jit(lambda params: mnist_jax.evaluate(SPEC, params, held))(some.params)
    assert found.n == 8
    wrong = HeldOut(held.images, held.labels + 10)
    with pytest.raises(InputError, match=r"must lie in 0\.\.9"):
        jax.jit(lambda params: mnist_jax.evaluate(SPEC, params, wrong))(some.params)


@pytest.mark.parametrize(
    "spec", [SPEC, CNN((3,)), Ensemble((CNN((2,), dense=(4,)), MLP((), ())))], ids=["mlp", "cnn", "ensemble"]
)
def test_no_images_get_no_answers(spec: Spec) -> None:
    params, none = mnist_jax.init(spec, KEY), np.zeros((0, 28, 28), np.uint8)
    assert mnist_jax.predict(spec, params, none).shape == (0, 10)
    assert mnist_jax.apply(spec, params, none).shape == (0, 10)
    assert jax.jit(mnist_jax.apply, static_argnums=0)(spec, params, none).shape == (0, 10)
    assert {len(layer) for layer in mnist_jax.activations(spec, params, none)} == {0}
    assert saliency(spec, params, none).shape == (0, 28, 28)
    with pytest.raises(InputError, match="silent_units needs at least one image; got none"):
        silent_units(spec, params, none)


def test_scores_of_what_are_no_counts_are_refused() -> None:
    counts = np.ones((10, 10), int)
    expected = metrics.class_scores(jnp.asarray(counts))
    for given in (counts.astype(">i8"), Column(counts)):
        jax.tree.map(np.testing.assert_array_equal, metrics.class_scores(given), expected)  # type: ignore[arg-type]
    for wrong in (counts.tolist(), counts / 10, counts[:3], counts > 0, np.ma.masked_array(counts)):
        with pytest.raises(InputError, match="confusion must be"):
            metrics.class_scores(wrong)
    with pytest.raises(InputError, match=r"weights must be integers, one for each of 2 labels; got float64"):
        metrics.confusion_matrix(np.array([1, 2]), np.array([1, 2]), np.ones(2))  # type: ignore[arg-type]


def test_calibration_of_what_are_no_probabilities_is_refused() -> None:
    labels = np.zeros(2, int)
    for wrong, message in (
        (np.full((2, 10), 2.0), r"probabilities must lie in 0\.\.1; got 2\.\.2"),
        (np.ones((2, 3)), r"floats \[batch, 10\]; got float64 \[2, 3\]"),
        (np.ones((2, 10), int), r"floats \[batch, 10\]; got int64"),
    ):
        with pytest.raises(InputError, match=message):
            metrics.calibration(wrong, labels)
    with pytest.raises(InputError, match="at least one row of probabilities"):
        metrics.calibration(np.ones((0, 10)), labels[:0])
    with pytest.raises(MnistJaxError, match="bins must be a whole number"):
        metrics.calibration(np.ones((2, 10)), labels, bins=0)


def test_pictures_without_pixels_or_numbers_are_refused() -> None:
    for size in ((0, 10), (10, 0)):
        with pytest.raises(ImageError, match=f"must have pixels; got {size[0]} x {size[1]}"):
            prepare(Image.new("L", size))
    for wrong, message in (
        ([[0, 255]], r"must be a Pillow image or an array; got list; convert it first"),
        (np.ma.masked_array(np.zeros((9, 9), np.uint8)), "got MaskedArray; fill it first"),
        (None, "got NoneType"),
        (np.zeros((9, 9)), r"must be uint8 \[h, w\]"),
    ):
        with pytest.raises(ImageError, match=message):
            prepare(wrong)
    stroke = np.zeros((40, 40), np.uint8)
    stroke[5:35, 18:22] = 255
    np.testing.assert_array_equal(prepare(jnp.asarray(stroke)), prepare(stroke))


def test_figures_of_what_are_no_numbers_are_refused() -> None:
    for draw in (
        lambda: plots.plot_class_balance({"a": [0.5]}),
        lambda: plots.plot_class_balance({"a": [10]}),
        lambda: plots.plot_class_balance({"a": np.eye(10)}),
        lambda: plots.plot_confusion([[1], [1, 2]]),
        lambda: plots.plot_images(np.zeros((1, 9, 9), complex)),
        lambda: plots.plot_images(HeldOut(np.zeros((1, 28, 28)), np.zeros(1))),
        lambda: plots.plot_activations(np.zeros((3, 3, 3))),
        lambda: plots.plot_weights(mnist_jax.init(SPEC, KEY), silent=np.zeros((2, 2))),
    ):
        with pytest.raises(InputError) as refusal:
            draw()
        assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [Examples, HeldOut])
def test_examples_have_a_length_and_give_some_of_themselves(kind: type, digits: Dataset) -> None:
    whole = kind(digits.test.images, digits.test.labels)
    assert len(whole) == 297
    for arrays in (whole, jax.device_put(whole)):
        for rows, expected in (
            (slice(3, 9, 2), [3, 5, 7]),
            ([5, 3, -1], [5, 3, 296]),
            (np.array([7], ">i8"), [7]),
            (jnp.arange(4), [0, 1, 2, 3]),
            (Column(whole.labels == 3), np.flatnonzero(whole.labels == 3)),
            ([], []),
        ):
            some, places = arrays[rows], np.asarray(expected, int)
            assert type(some) is kind
            assert len(some) == len(places)
            np.testing.assert_array_equal(some.images, digits.test.images[places])
            np.testing.assert_array_equal(some.labels, digits.test.labels[places])
        for rows in ([297], np.array([297]), jnp.array([297])):
            with pytest.raises(IndexError, match=r"below 297, the number of examples; got 297\.\.297"):
                arrays[rows]
        for rows in (np.ones(5, bool), jnp.ones(5, bool)):
            with pytest.raises(IndexError, match="an entry for each of 297 examples; got 5"):
                arrays[rows]


def test_one_of_the_examples_and_their_arrays_as_a_pair_are_refused(digits: Dataset) -> None:
    for rows, came in (
        (0, "int"),
        (np.int64(3), r"int64 \[\]"),
        ((0, 1), "tuple"),
        ([0.5], r"float64 \[1\]"),
    ):
        with pytest.raises(TypeError, match=rf"got {came}; for one of them, use examples\[i:i\+1\]"):
            digits.train[rows]
    message = r"Examples can't be unpacked or iterated over; take its .images and its .labels"
    with pytest.raises(TypeError, match=message):
        _, _ = digits.train
    with pytest.raises(TypeError, match=message):
        list(digits.train)
    pair = digits.train.images, digits.train.labels
    assert len(Examples(*pair)) == len(digits.train)


def test_examples_are_a_pytree(digits: Dataset) -> None:
    some = digits.train[:6]
    assert type(jax.tree.map(lambda _: None, some)) is Examples
    assert type(jax.jit(lambda part: part[jnp.array([1, 0])])(some)) is Examples
    np.testing.assert_array_equal(jax.vmap(lambda one: one.labels + one.images[0, 0])(some), some.labels)
    axes: Any = Examples(0, 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(jax.vmap(lambda one: one.labels, in_axes=(axes,))(some), some.labels)
    _, seen = jax.lax.scan(lambda carry, one: (carry, one.labels), 0, jax.device_put(some))
    np.testing.assert_array_equal(seen, some.labels)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(some)).labels, some.labels)
    abstract = jax.eval_shape(lambda part: part, some)
    assert (type(abstract), len(abstract)) == (Examples, 6)


def test_checks_add_nothing_to_a_traced_program(digits: Dataset) -> None:
    state, some = mnist_jax.init_state(CONFIG, KEY), jax.device_put(digits.train[:8])
    text = str(jax.make_jaxpr(functools.partial(mnist_jax.train_step, CONFIG))(Hyper(), state, some))
    assert "reduce_min" not in text
    text = str(jax.make_jaxpr(functools.partial(mnist_jax.evaluate, SPEC))(state.params, some))
    assert "reduce_min" not in text
