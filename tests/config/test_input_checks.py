"""Validation of arguments: which arrays are accepted or rejected; and `Examples` as a container."""

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
from mnist_jax import Config, Examples, HyperParams, TestSet
from mnist_jax.augmentation.deform import deform
from mnist_jax.config.deformation import Deformation
from mnist_jax.config.input_checks import as_images, as_labels
from mnist_jax.config.networks import CNN, MLP, Ensemble, Spec
from mnist_jax.config.pixel_checks import check_pixels
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.preprocess import prepare
from mnist_jax.errors import ImageError, InputError, MnistJaxError
from mnist_jax.evaluation import metrics, robustness
from mnist_jax.evaluation.inspection import dead_units, saliency
from mnist_jax.report import plots
from mnist_onnx.quantize import cost, quantize

pytestmark = pytest.mark.usefixtures("unchecked")
KEY = jax.random.key(0)
SPEC = MLP((5,), ("relu",))
CONFIG = Config(SPEC, epochs=1, batch_size=4)


class Column:
    """A stand-in for a table column: wraps an array, and its own indexing is not positional."""

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
def sample(digits: Dataset) -> SimpleNamespace:
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
def test_images_of_any_memory_layout_give_the_same_results(kind: str, sample: SimpleNamespace) -> None:
    images, predict = IMAGES[kind](sample.images), functools.partial(mnist_jax.predict, SPEC, sample.params)
    functions: list[Callable[[Any], Any]] = [
        predict,
        functools.partial(mnist_jax.apply, SPEC, sample.params),
        functools.partial(mnist_jax.intermediates, SPEC, sample.params),
        functools.partial(saliency, SPEC, sample.params),
        lambda array: quantize(sample.model, "int8-static", images=array).SerializeToString(),
        lambda array: mnist_jax.evaluate(SPEC, sample.params, TestSet(array, sample.labels)),
        lambda array: robustness.robustness(predict, array, sample.labels, KEY)[0].accuracies,
    ]
    for function in functions:
        jax.tree.map(np.testing.assert_array_equal, function(images), function(sample.images))


def test_parity_accepts_images_of_any_kind(sample: SimpleNamespace) -> None:
    assert mnist_onnx.check_parity(SPEC, sample.params, sample.model, Column(sample.images)).passed  # type: ignore[arg-type]


def test_float_images_in_another_byte_order_give_the_same_results(sample: SimpleNamespace) -> None:
    native = (sample.images / 255).astype(np.float32)
    logits = mnist_jax.apply(SPEC, sample.params, native.astype(">f4"))
    np.testing.assert_array_equal(logits, mnist_jax.apply(SPEC, sample.params, native))
    rotated = deform(Deformation(rotate=9), KEY, native[0].astype(">f4"))
    np.testing.assert_array_equal(rotated, deform(Deformation(rotate=9), KEY, native[0]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_integer_dtype_give_the_same_results(kind: str, sample: SimpleNamespace) -> None:
    logits = mnist_jax.apply(SPEC, sample.params, sample.images)
    model = sample.model.SerializeToString()
    functions: list[Callable[[Any], Any]] = [
        lambda array: mnist_jax.evaluate(SPEC, sample.params, TestSet(sample.images, array)),
        lambda array: mnist_jax.fit(CONFIG, Examples(sample.images, array), key=KEY).params,
        lambda array: metrics.cross_entropy("softmax", logits, array),
        lambda array: metrics.confusion_matrix(array, sample.labels),
        lambda array: metrics.calibration(jax.nn.softmax(logits), array),
        lambda array: cost(model, model, TestSet(sample.images, array)),
    ]
    labels = LABELS[kind](sample.labels)
    for function in functions:
        jax.tree.map(np.testing.assert_array_equal, function(labels), function(sample.labels))


@pytest.mark.slow
def test_a_table_column_trains_like_its_array(sample: SimpleNamespace) -> None:
    columns = [Column(sample.labels.astype(np.int64))]
    try:
        import pandas as pd
    except ImportError:
        pass
    else:
        columns.append(pd.Series(sample.labels.astype(np.int64), index=np.arange(8)[::-1]))
    for column in columns:
        examples = Examples(sample.images, column)
        np.testing.assert_array_equal(examples[2:5].labels, sample.labels[2:5])
        np.testing.assert_array_equal(examples[[5, 0]].labels, sample.labels[[5, 0]])
        many = mnist_jax.fit_many(CONFIG, examples, examples, keys=jax.random.split(KEY, 2))
        assert len(many.histories) == 2


REJECTED: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "masked": (np.ma.masked_array, r"must be an array of shape .*; got MaskedArray; fill it first: images"),
    "a list": (lambda images: images.tolist(), r"got list; convert it first: np.asarray\(images\)"),
    "objects": (lambda images: images.astype(object), "of numbers; got dtype object"),
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


@pytest.mark.parametrize("kind", REJECTED)
def test_as_images_rejects_ambiguous_images(kind: str, sample: SimpleNamespace) -> None:
    make, message = REJECTED[kind]
    with pytest.raises(InputError, match=message) as caught:
        as_images(make(sample.images))
    assert len(str(caught.value).splitlines()) == 1


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
def test_errors_for_pixels_out_of_range_suggest_a_fix(
    low: float, high: float, hint: str, sample: SimpleNamespace
) -> None:
    images = np.zeros((2, 28, 28), np.float32)
    images[0, 0, :2] = low, high
    for pixels in (images, jnp.asarray(images)):
        with pytest.raises(InputError, match=hint):
            check_pixels(pixels)
        with pytest.raises(InputError, match=hint):
            mnist_jax.predict(SPEC, sample.params, pixels)


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
def test_errors_for_ambiguous_labels_suggest_a_conversion(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_labels(labels, 8, num_classes=10)
    with pytest.raises(InputError, match=message.replace("labels", "predicted")):
        metrics.confusion_matrix(labels, np.zeros(8, int))
    with pytest.raises(InputError, match=message):
        metrics.cross_entropy("softmax", jnp.zeros((8, 10)), labels)


def test_constants_of_a_traced_function_are_checked(sample: SimpleNamespace) -> None:
    constant = jax.device_put(TestSet(sample.images, sample.labels))
    result = jax.jit(lambda params: mnist_jax.evaluate(SPEC, params, constant))(sample.params)
    assert result.n == 8
    wrong = TestSet(constant.images, constant.labels + 10)
    with pytest.raises(InputError, match=r"must lie in 0\.\.9"):
        jax.jit(lambda params: mnist_jax.evaluate(SPEC, params, wrong))(sample.params)


@pytest.mark.parametrize(
    "spec",
    [SPEC, CNN((3,)), Ensemble((CNN((2,), dense_sizes=(4,)), MLP((), ())))],
    ids=["mlp", "cnn", "ensemble"],
)
def test_an_empty_batch_gives_empty_results(spec: Spec) -> None:
    params, empty = mnist_jax.init(spec, KEY), np.zeros((0, 28, 28), np.uint8)
    assert mnist_jax.predict(spec, params, empty).shape == (0, 10)
    assert mnist_jax.apply(spec, params, empty).shape == (0, 10)
    assert jax.jit(mnist_jax.apply, static_argnums=0)(spec, params, empty).shape == (0, 10)
    assert {len(layer) for layer in mnist_jax.intermediates(spec, params, empty)} == {0}
    assert saliency(spec, params, empty).shape == (0, 28, 28)
    with pytest.raises(InputError, match="dead_units needs at least one image; got none"):
        dead_units(spec, params, empty)


def test_class_scores_and_confusion_matrix_reject_anything_but_counts() -> None:
    counts = np.ones((10, 10), int)
    expected = metrics.class_scores(jnp.asarray(counts))
    for valid in (counts.astype(">i8"), Column(counts)):
        jax.tree.map(np.testing.assert_array_equal, metrics.class_scores(valid), expected)  # type: ignore[arg-type]
    for wrong in (counts.tolist(), counts / 10, counts[:3], counts > 0, np.ma.masked_array(counts)):
        with pytest.raises(InputError, match="confusion must be"):
            metrics.class_scores(wrong)
    with pytest.raises(InputError, match=r"weights must be integers, one for each of 2 labels; got float64"):
        metrics.confusion_matrix(np.array([1, 2]), np.array([1, 2]), np.ones(2))  # type: ignore[arg-type]


def test_calibration_rejects_anything_but_probabilities() -> None:
    labels = np.zeros(2, int)
    for wrong, message in (
        (np.full((2, 10), 2.0), r"probabilities must lie in 0\.\.1; got 2\.\.2"),
        (np.ones((2, 1)), r"floats \[batch, classes\]; got float64 \[2, 1\]"),
        (np.ones((2, 10), int), r"floats \[batch, classes\]; got int64"),
    ):
        with pytest.raises(InputError, match=message):
            metrics.calibration(wrong, labels)
    with pytest.raises(InputError, match="at least one row of probabilities"):
        metrics.calibration(np.ones((0, 10)), labels[:0])
    with pytest.raises(MnistJaxError, match="bins must be a whole number"):
        metrics.calibration(np.ones((2, 10)), labels, bins=0)


def test_prepare_rejects_empty_images_and_wrong_types() -> None:
    for size in ((0, 10), (10, 0)):
        with pytest.raises(ImageError, match=f"must have pixels; got {size[0]} x {size[1]}"):
            prepare(Image.new("L", size))
    for wrong, message in (
        ([[0, 255]], r"must be a Pillow image or an array; got list; convert it first"),
        (np.ma.masked_array(np.zeros((9, 9), np.uint8)), "got MaskedArray; fill it first"),
        (None, "got NoneType"),
        (np.zeros((9, 9), complex), r"must be numbers \[h, w\]"),
    ):
        with pytest.raises(ImageError, match=message):
            prepare(wrong)
    stroke = np.zeros((40, 40), np.uint8)
    stroke[5:35, 18:22] = 255
    np.testing.assert_array_equal(prepare(jnp.asarray(stroke)), prepare(stroke))


def test_plots_reject_invalid_data() -> None:
    for draw in (
        lambda: plots.plot_class_balance({"a": [0.5]}),
        lambda: plots.plot_class_balance({"a": [10]}),
        lambda: plots.plot_class_balance({"a": np.eye(10)}),
        lambda: plots.plot_confusion([[1], [1, 2]]),
        lambda: plots.plot_images(np.zeros((1, 9, 9), complex)),
        lambda: plots.plot_images(TestSet(np.zeros((1, 28, 28)), np.zeros(1))),
        lambda: plots.plot_activations(np.zeros((3, 3, 3))),
        lambda: plots.plot_weights(mnist_jax.init(SPEC, KEY), dead=np.zeros((2, 2))),
    ):
        with pytest.raises(InputError) as caught:
            draw()
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [Examples, TestSet])
def test_examples_have_a_length_and_can_be_indexed(kind: type, digits: Dataset) -> None:
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
            subset, indices = arrays[rows], np.asarray(expected, int)
            assert type(subset) is kind
            assert len(subset) == len(indices)
            np.testing.assert_array_equal(subset.images, digits.test.images[indices])
            np.testing.assert_array_equal(subset.labels, digits.test.labels[indices])
        for rows in ([297], np.array([297]), jnp.array([297])):
            with pytest.raises(IndexError, match=r"below 297, the number of examples; got 297\.\.297"):
                arrays[rows]
        for rows in (np.ones(5, bool), jnp.ones(5, bool)):
            with pytest.raises(IndexError, match="an entry for each of 297 examples; got 5"):
                arrays[rows]


def test_examples_reject_a_single_index_and_unpacking(digits: Dataset) -> None:
    for rows, got in (
        (0, "int"),
        (np.int64(3), r"int64 \[\]"),
        ((0, 1), "tuple"),
        ([0.5], r"float64 \[1\]"),
    ):
        with pytest.raises(TypeError, match=rf"got {got}; for a single example, use examples\[i:i\+1\]"):
            digits.train[rows]
    message = r"Examples can't be unpacked or iterated over; use .images and .labels"
    with pytest.raises(TypeError, match=message):
        _, _ = digits.train
    with pytest.raises(TypeError, match=message):
        list(digits.train)
    pair = digits.train.images, digits.train.labels
    assert len(Examples(*pair)) == len(digits.train)


def test_examples_are_a_pytree(digits: Dataset) -> None:
    examples = digits.train[:6]
    assert type(jax.tree.map(lambda _: None, examples)) is Examples
    assert type(jax.jit(lambda part: part[jnp.array([1, 0])])(examples)) is Examples
    np.testing.assert_array_equal(
        jax.vmap(lambda example: example.labels + example.images[0, 0])(examples), examples.labels
    )
    axes: Any = Examples(0, 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        jax.vmap(lambda example: example.labels, in_axes=(axes,))(examples), examples.labels
    )
    _, seen = jax.lax.scan(lambda carry, example: (carry, example.labels), 0, jax.device_put(examples))
    np.testing.assert_array_equal(seen, examples.labels)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(examples)).labels, examples.labels)
    abstract = jax.eval_shape(lambda part: part, examples)
    assert (type(abstract), len(abstract)) == (Examples, 6)


def test_checks_add_nothing_to_a_traced_program(digits: Dataset) -> None:
    state, examples = mnist_jax.init_state(CONFIG, KEY), jax.device_put(digits.train[:8])
    text = str(
        jax.make_jaxpr(functools.partial(mnist_jax.train_step, CONFIG))(HyperParams(), state, examples)
    )
    assert "reduce_min" not in text
    text = str(jax.make_jaxpr(functools.partial(mnist_jax.evaluate, SPEC))(state.params, examples))
    assert "reduce_min" not in text
