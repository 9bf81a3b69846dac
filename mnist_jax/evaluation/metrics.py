"""Loss and metrics as pure functions of arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Float32, Int32

from mnist_jax.config.input_checks import as_array, as_labels, check_range
from mnist_jax.config.networks import DEFAULT_CLASSES, Output
from mnist_jax.config.validation import check_choice, check_positive_int
from mnist_jax.errors import InputError
from mnist_jax.types import AnyArray, Array, Confusion, Labels, Logits, Scalar


class ClassScores(NamedTuple):
    """Scores of each class, float32 `[classes]`; 0 where they are undefined, as in scikit-learn.

    Attributes:
        precision: fraction of the predictions of a class that are correct.
        recall: fraction of the images of a class that are recognized.
        f1: harmonic mean of precision and recall.
    """

    precision: Float32[Array, "classes"]
    recall: Float32[Array, "classes"]
    f1: Float32[Array, "classes"]


class Calibration(NamedTuple):
    """Calibration of a network, in bins of equal width by confidence.

    Attributes:
        confidence: mean confidence of the predictions in each bin, float32 `[bins]`; 0 in an empty bin.
        accuracy: fraction of correct predictions in each bin, float32 `[bins]`; 0 in an empty bin.
        counts: number of predictions in each bin, int32 `[bins]`.
        error: expected calibration error (Naeini et al. 2015): the mean over all predictions of the absolute
            difference between confidence and accuracy of their bins.
    """

    confidence: Float32[Array, "bins"]
    accuracy: Float32[Array, "bins"]
    counts: Int32[Array, "bins"]
    error: Scalar


def cross_entropy(
    output: Output, logits: Logits, labels: Labels, label_smoothing: float | Scalar = 0.0
) -> Float32[Array, "batch"]:
    """Compute the cross-entropy of each example, in nats.

    With `sigmoid`, the outputs are divided by their sum first, as in Keras's sparse categorical
    cross-entropy; here in log space, where saturated sigmoids lose no precision.

    Args:
        output: `softmax` or `sigmoid`.
        logits: `[batch, classes]`.
        labels: `[batch]`.
        label_smoothing: fraction of the target that is spread over all classes.

    Returns:
        Losses, float32 `[batch]`.

    Raises:
        InputError: if shapes or dtypes do not match; or, except during tracing, if a label is out of range.
        SpecError: if `output` is unknown.

    Examples:
        >>> import jax.numpy as jnp
        >>> from mnist_jax import metrics
        >>> loss = metrics.cross_entropy("softmax", jnp.zeros((1, 10)), jnp.array([3]))
        >>> print(f"{loss[0]:.4f}")  # log(10)
        2.3026
    """
    check_choice("output", output, get_args(Output))
    logits = _rows("logits", logits)
    labels = as_labels(labels, logits.shape[0], num_classes=logits.shape[1])
    scores = jax.nn.log_sigmoid(logits) if output == "sigmoid" else logits
    log_probabilities = jax.nn.log_softmax(scores)
    # Not take_along_axis: its gradient is a scatter, which is slow on every device.
    one_hot = jnp.asarray(labels, jnp.int32)[:, None] == jnp.arange(logits.shape[1], dtype=jnp.int32)[None]
    true = jnp.where(one_hot, log_probabilities, 0).sum(axis=-1)
    return -((1 - label_smoothing) * true + label_smoothing * log_probabilities.mean(axis=-1))


def example_losses(
    loss: Callable[..., Any] | None,
    output: Output,
    logits: Logits,
    labels: Labels,
    label_smoothing: float | Scalar = 0.0,
) -> Float32[Array, "batch"]:
    """Compute the loss of each example by a function of logits and labels; None for the cross-entropy.

    Raises:
        InputError: if it does not return one float per example; or as `cross_entropy`.
    """
    if loss is None:
        return cross_entropy(output, logits, labels, label_smoothing)
    with jax.numpy_dtype_promotion("standard"):
        losses = loss(logits, jnp.asarray(labels, jnp.int32))
    shape = getattr(losses, "shape", None)
    if shape != (len(logits),) or not jnp.issubdtype(losses.dtype, jnp.floating):
        got = type(losses).__name__ if shape is None else f"{losses.dtype} {list(shape)}"
        raise InputError(f"a loss function must return one float per example, [{len(logits)}]; got {got}")
    return jnp.asarray(losses, jnp.float32)


def confusion_matrix(
    predicted: Labels,
    labels: Labels,
    weights: Int32[Array, "batch"] | None = None,
    *,
    num_classes: int = DEFAULT_CLASSES,
) -> Confusion:
    """Count examples by true and predicted class.

    Args:
        predicted: predicted classes, `[batch]`.
        labels: true classes, `[batch]`.
        weights: weight of each example, int32 `[batch]`; 0 excludes it. None for 1.
        num_classes: number of classes.

    Returns:
        Counts, int32 `[classes, classes]`; rows are true classes, columns predicted ones.

    Raises:
        InputError: if shapes or dtypes do not match; or, except during tracing, if a class is out of range.

    Examples:
        >>> import jax.numpy as jnp
        >>> from mnist_jax import metrics
        >>> metrics.confusion_matrix(jnp.array([1, 1, 0]), jnp.array([1, 0, 0]))[:2, :2]
        Array([[1, 1],
               [0, 1]], dtype=int32)
    """
    labels = as_labels(labels, num_classes=num_classes)
    predicted = as_labels(predicted, labels.shape[0], "predicted", num_classes=num_classes)
    counts = jnp.ones(labels.shape, jnp.int32) if weights is None else as_array("weights", weights)
    if counts.shape != labels.shape or not jnp.issubdtype(counts.dtype, jnp.integer):
        got = f"{counts.dtype} {list(counts.shape)}"
        raise InputError(f"weights must be integers, one for each of {labels.shape[0]:,} labels; got {got}")
    cells = jnp.asarray(labels, jnp.int32), jnp.asarray(predicted, jnp.int32)
    return jnp.zeros((num_classes, num_classes), jnp.int32).at[cells].add(counts)


def class_scores(confusion: Confusion) -> ClassScores:
    """Compute precision, recall and F1 score of each class.

    Args:
        confusion: confusion matrix, integers `[classes, classes]`.

    Returns:
        The scores, float32 `[classes]` each.

    Raises:
        InputError: if it is not a square array of integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from mnist_jax import metrics
        >>> confusion = metrics.confusion_matrix(jnp.array([1, 1, 0]), jnp.array([1, 0, 0]))
        >>> metrics.class_scores(confusion).recall[:2]
        Array([0.5, 1. ], dtype=float32)
    """
    confusion = as_array("confusion", confusion)
    integers = jnp.issubdtype(confusion.dtype, jnp.integer)
    if confusion.shape != confusion.shape[:1] * 2 or not integers:
        got = f"{confusion.dtype} {list(confusion.shape)}"
        raise InputError(f"confusion must be integer counts [classes, classes]; got {got}")
    counts = jnp.asarray(confusion, jnp.float32)
    hits, predicted, actual = jnp.diagonal(counts), counts.sum(axis=0), counts.sum(axis=1)
    return ClassScores(
        precision=hits / jnp.maximum(predicted, 1),
        recall=hits / jnp.maximum(actual, 1),
        f1=2 * hits / jnp.maximum(predicted + actual, 1),
    )


def calibration(
    probabilities: Float32[AnyArray, "batch classes"], labels: Labels, *, bins: int = 10
) -> Calibration:
    """Compare confidence, the largest probability of a prediction, with accuracy.

    Args:
        probabilities: `[batch, classes]`, in 0..1.
        labels: `[batch]`.
        bins: number of bins; a bin includes its upper bound, not its lower one.

    Returns:
        Confidence, accuracy and count of each bin, and the expected calibration error.

    Raises:
        InputError: if shapes or dtypes do not match or there is no row; or, except during tracing, if a
            probability or a label is out of range.
        SpecError: if `bins` is not a whole number of at least 1.

    Examples:
        >>> import jax.numpy as jnp
        >>> from mnist_jax import metrics
        >>> probabilities = jnp.eye(10)[:4]  # confident in the classes 0 to 3
        >>> float(metrics.calibration(probabilities, jnp.array([0, 1, 2, 9])).error)
        0.25
    """
    probabilities = _rows("probabilities", probabilities)
    labels = as_labels(labels, probabilities.shape[0], num_classes=probabilities.shape[1])
    labels = jnp.asarray(labels, jnp.int32)
    check_range("probabilities", probabilities)
    bins = check_positive_int("bins", bins)
    if not labels.shape[0]:
        raise InputError("calibration needs at least one row of probabilities; got none")
    largest = probabilities.max(axis=-1)
    correct = (probabilities.argmax(axis=-1).astype(jnp.int32) == labels).astype(jnp.float32)
    index = jnp.clip(jnp.ceil(largest * bins).astype(jnp.int32) - 1, 0, bins - 1)

    def sum_by_bin(values: Array) -> Array:
        return jnp.zeros(bins, values.dtype).at[index].add(values)

    counts = sum_by_bin(jnp.ones_like(index))
    divisors = jnp.maximum(counts, 1).astype(jnp.float32)
    confidence, accuracy = sum_by_bin(largest) / divisors, sum_by_bin(correct) / divisors
    error = (jnp.abs(confidence - accuracy) * counts.astype(jnp.float32)).sum() / labels.shape[0]
    return Calibration(confidence, accuracy, counts, error)


def _rows(name: str, numbers: Any) -> Array:
    """Return `numbers` as an array of floats `[batch, classes]`, or raise an InputError."""
    numbers = as_array(name, numbers)
    real = jnp.issubdtype(numbers.dtype, jnp.floating)
    if len(numbers.shape) != 2 or numbers.shape[1] < 2 or not real:
        got = f"{numbers.dtype} {list(numbers.shape)}"
        raise InputError(f"{name} must be floats [batch, classes]; got {got}")
    return jnp.asarray(numbers)
