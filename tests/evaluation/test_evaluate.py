import functools

import jax
import numpy as np
import pytest
import sklearn.metrics

from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples, TestSet
from mnist_jax.errors import InputError, SpecError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.nn.model import predict
from mnist_jax.training.records import FitResult
from mnist_jax.training.step import train_epoch, train_step
from mnist_jax.types import Params

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.mark.parametrize("batch_size", [1, 7, 100, 296, 297, 298, 10_000])
def test_every_example_counts_once_for_any_batch_size(
    digits: Dataset, trained: tuple[Config, FitResult], batch_size: int
) -> None:
    spec, params = trained[0].model, trained[1].state.params
    result = jax.jit(evaluate, static_argnums=0, static_argnames="batch_size")(
        spec, params, digits.test, batch_size=batch_size
    )
    probabilities = np.asarray(predict(spec, params, digits.test.images), np.float64)
    predicted = probabilities.argmax(-1)
    assert int(result.n) == 297
    np.testing.assert_array_equal(
        result.confusion, sklearn.metrics.confusion_matrix(digits.test.labels, predicted)
    )
    np.testing.assert_allclose(result.accuracy, (predicted == digits.test.labels).mean(), rtol=1e-6)
    expected = sklearn.metrics.log_loss(
        digits.test.labels, probabilities / probabilities.sum(-1, keepdims=True)
    )
    np.testing.assert_allclose(result.loss, expected, rtol=1e-4)


def in_numpy(spec: MLP, params: Params, examples: Examples) -> tuple[float, int]:
    """Mean loss and number of correct predictions of a ReLU network with softmax."""
    hidden = np.asarray(examples.images).reshape(-1, 784) / 255
    for index in range(len(spec.layer_sizes) - 1):
        layer = params[f"Dense_{index}"]
        hidden = (np.maximum(hidden, 0) if index else hidden) @ layer["kernel"] + layer["bias"]
    norm = np.log(np.exp(hidden).sum(-1))
    losses = norm - hidden[np.arange(len(hidden)), examples.labels]
    return float(losses.mean()), int((hidden.argmax(-1) == examples.labels).sum())


@pytest.mark.parametrize("batch_size", [1_000, 60_000])
def test_sums_are_correct_beyond_row_32768(trained: tuple[Config, FitResult], batch_size: int) -> None:
    """Compiled sums equal NumPy's; a release of jaxlib summed wrongly there (jax issue 39103)."""
    spec, params = trained[0].model, trained[1].state.params
    rng = np.random.default_rng(0)
    examples = Examples(rng.integers(0, 256, (60_000, 28, 28), np.uint8), rng.integers(0, 10, 60_000))
    variants = [
        jax.tree.map(lambda leaf, scale=scale: np.asarray(leaf) * np.float32(scale), params)
        for scale in (1, 0.5)
    ]
    score = jax.jit(jax.vmap(functools.partial(evaluate, spec, batch_size=batch_size), in_axes=(0, None)))
    result = score(jax.tree.map(lambda *leaves: np.stack(leaves), *variants), examples)
    for index, variant in enumerate(variants):
        loss, correct = in_numpy(spec, variant, examples)
        assert int(result.n[index]) == 60_000
        assert float(result.loss[index]) == pytest.approx(loss, rel=1e-4)
        assert abs(int(result.confusion[index].trace()) - correct) <= 3  # near-ties may differ


def test_evaluate_rejects_an_empty_set_and_batch_size_0(
    trained: tuple[Config, FitResult], digits: Dataset
) -> None:
    spec, params = trained[0].model, trained[1].state.params
    with pytest.raises(InputError, match="examples must hold at least one image; got none"):
        evaluate(spec, params, TestSet(digits.test.images[:0], digits.test.labels[:0]))
    with pytest.raises(SpecError, match="batch size must be a whole number of at least 1; got 0"):
        evaluate(spec, params, digits.test, batch_size=0)


@pytest.mark.usefixtures("unchecked")
def test_images_and_labels_that_do_not_match_are_rejected(
    trained: tuple[Config, FitResult], digits: Dataset
) -> None:
    """JAX would clamp indices out of range and count one image several times."""
    config, run = trained
    images, labels = digits.train.images[:50], np.asarray(digits.train.labels[:50], np.int32)
    for examples, message in (
        (Examples(images[:10], labels), r"one entry for each of 10 images; got shape \(50,\)"),
        (Examples(images, labels[:10]), r"one entry for each of 50 images; got shape \(10,\)"),
        (Examples(images, labels[:, None]), r"got shape \(50, 1\)"),
        (Examples(images, labels + 0.5), "labels must be integers from 0 to 9; got float64"),
        (Examples(images[:0], labels[:0]), "examples must hold at least one image"),
        (digits, "examples must have images and labels, as Examples has; got Dataset"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(config.model, run.state.params, examples)
        for function in (train_step, train_epoch):
            with pytest.raises(InputError, match=message):
                function(config, HyperParams(), run.state, examples)
