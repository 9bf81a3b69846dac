import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from mnist_jax.config.networks import Output
from mnist_jax.evaluation.metrics import calibration, class_scores, confusion_matrix, cross_entropy

pytestmark = pytest.mark.usefixtures("strict_dtypes")

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 10, 200)
LOGITS = jnp.asarray(RNG.normal(size=(200, 10)) * 3, jnp.float32)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_cross_entropy_equals_keras_on_the_normalized_output(output: Output) -> None:
    z = np.asarray(LOGITS, np.float64)
    probabilities = np.exp(z) if output == "softmax" else 1 / (1 + np.exp(-z))
    probabilities /= probabilities.sum(-1, keepdims=True)
    expected = -np.log(probabilities[np.arange(200), LABELS])
    np.testing.assert_allclose(cross_entropy(output, LOGITS, LABELS), expected, rtol=1e-5, atol=1e-6)


def test_cross_entropy_by_hand() -> None:
    flat = jnp.zeros((1, 10))
    label = np.array([3])
    for output in ("softmax", "sigmoid"):
        np.testing.assert_allclose(cross_entropy(output, flat, label), [np.log(10)], rtol=1e-6)
    two = flat.at[0, 3].set(np.log(9.0))  # class 3 has probability 1/2
    np.testing.assert_allclose(cross_entropy("softmax", two, label), [np.log(2)], rtol=1e-6)
    # Smoothed by 0.2: 0.8 x log 2 + 0.2 x (log 2 + 9 log 18) / 10.
    expected = 0.8 * np.log(2) + 0.02 * (np.log(2) + 9 * np.log(18))
    np.testing.assert_allclose(cross_entropy("softmax", two, label, 0.2), [expected], rtol=1e-6)


@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_saturated_logits_have_a_finite_loss(scale: float) -> None:
    logits = jnp.asarray(np.sign(RNG.normal(size=(50, 10))) * scale, jnp.float32)
    for output in ("softmax", "sigmoid"):
        assert np.isfinite(cross_entropy(output, logits, LABELS[:50])).all()
    # All ten sigmoids underflow; normalized, each is 1/10.
    np.testing.assert_allclose(
        cross_entropy("sigmoid", jnp.full((1, 10), -scale), np.array([0])), [np.log(10)], rtol=1e-5
    )


def test_class_scores_equal_scikit_learns() -> None:
    predicted = np.where(RNG.random(200) < 0.7, LABELS, RNG.integers(0, 9, 200))  # class 9 is rare
    confusion = confusion_matrix(predicted, LABELS)
    np.testing.assert_array_equal(
        confusion, sklearn.metrics.confusion_matrix(LABELS, predicted, labels=range(10))
    )
    result = class_scores(confusion)
    expected = sklearn.metrics.precision_recall_fscore_support(
        LABELS, predicted, labels=range(10), zero_division=0.0
    )
    for ours, theirs in zip(result, expected[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_absent_classes_score_zero() -> None:
    scores = class_scores(confusion_matrix(np.array([0, 0]), np.array([0, 1])))
    np.testing.assert_allclose(scores.precision[:3], [0.5, 0, 0])
    np.testing.assert_allclose(scores.recall[:3], [1, 0, 0])
    np.testing.assert_allclose(scores.f1[:3], [2 / 3, 0, 0], rtol=1e-6)


def test_calibration_by_hand() -> None:
    rows = np.full((4, 10), 0.0, np.float32)
    rows[:, 0] = 0.95, 0.85, 0.9, 1.0
    rows[:, 1] = 0.05, 0.15, 0.1, 0.0
    result = calibration(jnp.asarray(rows), np.array([0, 1, 0, 1]))
    assert result.counts.tolist() == [0] * 8 + [2, 2]
    np.testing.assert_allclose(result.confidence[8:], [0.875, 0.975], rtol=1e-6)
    np.testing.assert_allclose(result.accuracy[8:], [0.5, 0.5], rtol=1e-6)
    assert float(result.error) == pytest.approx((0.375 + 0.475) / 2)


def test_a_perfect_network_is_calibrated() -> None:
    labels = np.arange(10)
    result = calibration(jnp.eye(10), labels)
    assert float(result.error) == 0
    assert result.counts.tolist() == [0] * 9 + [10]
