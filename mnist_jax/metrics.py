"""Losses and scores as pure functions of arrays."""

from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Float32, Int32

from mnist_jax.checks import as_array, as_labels, check_range
from mnist_jax.errors import InputError
from mnist_jax.networks import CLASSES, Output
from mnist_jax.settings import check_one_of, check_whole
from mnist_jax.types import AnyArray, Array, Confusion, Labels, Logits, Scalar


class ClassScores(NamedTuple):
    """Per class, float32 `[10]`; zero where nothing can be said, as in scikit-learn.

    Attributes:
        precision: of the images given this label, the share that deserved it.
        recall: of the images of this class, the share that was given its label.
        f1: the harmonic mean of the two.
    """

    precision: Float32[Array, "10"]
    recall: Float32[Array, "10"]
    f1: Float32[Array, "10"]


class Calibration(NamedTuple):
    """Whether a network is right as often as it says it is, in bins of equal width by what it says.

    Attributes:
        confidence: mean probability of the answers in each bin, float32 `[bins]`; 0 in an empty one.
        accuracy: the share of them that are right, float32 `[bins]`; 0 in an empty bin.
        counts: how many there are, int32 `[bins]`.
        error: the expected calibration error (Naeini et al. 2015): the mean over all answers of the distance
            between their bin's confidence and accuracy.
    """

    confidence: Float32[Array, "bins"]
    accuracy: Float32[Array, "bins"]
    counts: Int32[Array, "bins"]
    error: Scalar


def cross_entropy(
    output: Output, logits: Logits, labels: Labels, label_smoothing: float | Scalar = 0.0
) -> Float32[Array, "batch"]:
    """The loss of each example, in nats.

    A sigmoid network's ten outputs are divided by their sum first, as Keras does with its sparse
    categorical cross-entropy; here in logarithms, where a saturated sigmoid loses nothing.

    Args:
        output: how logits become probabilities.
        logits: `[batch, 10]`.
        labels: `[batch]`.
        label_smoothing: the share of the target that is spread over all classes.

    Raises:
        InputError: shapes or dtypes do not fit; outside `jit`, where numbers can be seen: a label is not one
            of the ten classes.
        SpecError: there is no such output.
    """
    check_one_of("output", output, get_args(Output))
    logits = _rows("logits", logits)
    labels = as_labels(labels, logits.shape[0])
    scores = jax.nn.log_sigmoid(logits) if output == "sigmoid" else logits
    log_probabilities = jax.nn.log_softmax(scores)
    # Not take_along_axis, whose gradient is a scatter: slow on every device.
    hits = jnp.asarray(labels, jnp.int32)[:, None] == jnp.arange(CLASSES, dtype=jnp.int32)[None]
    true = jnp.where(hits, log_probabilities, 0).sum(axis=-1)
    return -((1 - label_smoothing) * true + label_smoothing * log_probabilities.mean(axis=-1))


def confusion_matrix(
    predicted: Labels, labels: Labels, weights: Int32[Array, "batch"] | None = None
) -> Confusion:
    """Counts: row true class, column predicted class, int32 `[10, 10]`; `weights` 0 leaves an example out.

    Raises:
        InputError: as `cross_entropy`, of predicted classes too; or weights are not one integer for each.
    """
    labels = as_labels(labels)
    predicted = as_labels(predicted, labels.shape[0], "predicted")
    counts = jnp.ones(labels.shape, jnp.int32) if weights is None else as_array("weights", weights)
    if counts.shape != labels.shape or not jnp.issubdtype(counts.dtype, jnp.integer):
        came = f"{counts.dtype} {list(counts.shape)}"
        raise InputError(f"weights must be integers, one for each of {labels.shape[0]:,} labels; got {came}")
    cells = jnp.asarray(labels, jnp.int32), jnp.asarray(predicted, jnp.int32)
    return jnp.zeros((CLASSES, CLASSES), jnp.int32).at[cells].add(counts)


def class_scores(confusion: Confusion) -> ClassScores:
    """Precision, recall and F1 of each class.

    Raises:
        InputError: these are not counts, whole numbers `[10, 10]`.
    """
    confusion = as_array("confusion", confusion)
    integers = jnp.issubdtype(confusion.dtype, jnp.integer)
    if confusion.shape != (CLASSES, CLASSES) or not integers:
        came = f"{confusion.dtype} {list(confusion.shape)}"
        raise InputError(f"confusion must be counts, whole numbers [{CLASSES}, {CLASSES}]; got {came}")
    counts = jnp.asarray(confusion, jnp.float32)
    hits, predicted, actual = jnp.diagonal(counts), counts.sum(axis=0), counts.sum(axis=1)
    return ClassScores(
        precision=hits / jnp.maximum(predicted, 1),
        recall=hits / jnp.maximum(actual, 1),
        f1=2 * hits / jnp.maximum(predicted + actual, 1),
    )


def calibration(
    probabilities: Float32[AnyArray, "batch 10"], labels: Labels, *, bins: int = 10
) -> Calibration:
    """Confidence, the largest of an image's ten probabilities, against the share of right answers.

    Args:
        probabilities: `[batch, 10]`, in 0..1.
        labels: `[batch]`.
        bins: a bin holds the confidences above its lower end, up to its upper one.

    Raises:
        InputError: shapes or dtypes do not fit, or there is no row; outside `jit`, where numbers can be seen:
            a probability or a label is out of its range.
        SpecError: bins are no whole number of at least 1.
    """
    probabilities = _rows("probabilities", probabilities)
    labels = jnp.asarray(as_labels(labels, probabilities.shape[0]), jnp.int32)
    check_range("probabilities", probabilities)
    bins = check_whole("bins", bins)
    if not labels.shape[0]:
        raise InputError("calibration needs at least one row of probabilities; got none")
    said = probabilities.max(axis=-1)
    right = (probabilities.argmax(axis=-1).astype(jnp.int32) == labels).astype(jnp.float32)
    place = jnp.clip(jnp.ceil(said * bins).astype(jnp.int32) - 1, 0, bins - 1)

    def binned(values: Array) -> Array:
        return jnp.zeros(bins, values.dtype).at[place].add(values)

    count = binned(jnp.ones_like(place))
    shares = jnp.maximum(count, 1).astype(jnp.float32)
    confidence, accuracy = binned(said) / shares, binned(right) / shares
    error = (jnp.abs(confidence - accuracy) * count.astype(jnp.float32)).sum() / labels.shape[0]
    return Calibration(confidence, accuracy, count, error)


def _rows(name: str, numbers: Any) -> Array:
    """Ten real numbers for each example."""
    numbers = as_array(name, numbers)
    real = jnp.issubdtype(numbers.dtype, jnp.floating)
    if len(numbers.shape) != 2 or numbers.shape[1] != CLASSES or not real:
        came = f"{numbers.dtype} {list(numbers.shape)}"
        raise InputError(f"{name} must be floats [batch, {CLASSES}]; got {came}")
    return jnp.asarray(numbers)
