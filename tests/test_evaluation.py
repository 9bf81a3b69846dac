import jax
import numpy as np
import pytest
import sklearn.metrics

from mnist_jax.datasets import Dataset
from mnist_jax.errors import InputError
from mnist_jax.evaluation import evaluate
from mnist_jax.models import apply, predict
from mnist_jax.specs import Config
from mnist_jax.train import Fit
from mnist_jax.types import Examples, HeldOut

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.mark.parametrize("batch_size", [1, 7, 100, 296, 297, 298, 10_000])
def test_every_example_counts_once_at_any_batch_size(
    digits: Dataset, trained: tuple[Config, Fit], batch_size: int
) -> None:
    spec, params = trained[0].model, trained[1].state.params
    found = jax.jit(evaluate, static_argnums=0, static_argnames="batch_size")(
        spec, params, digits.test, batch_size=batch_size
    )
    probabilities = np.asarray(predict(spec, params, digits.test.images), np.float64)
    answers = probabilities.argmax(-1)
    assert int(found.n) == 297
    np.testing.assert_array_equal(found.confusion, sklearn.metrics.confusion_matrix(digits.test.labels, answers))
    np.testing.assert_allclose(found.accuracy, (answers == digits.test.labels).mean(), rtol=1e-6)
    expected = sklearn.metrics.log_loss(digits.test.labels, probabilities / probabilities.sum(-1, keepdims=True))
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)


def test_sums_stay_right_past_row_32768(trained: tuple[Config, Fit]) -> None:
    """A release of jaxlib summed wrongly there (jax issue 39103): compiled sums against NumPy's, at full size."""
    spec, params = trained[0].model, trained[1].state.params
    rng = np.random.default_rng(0)
    examples = Examples(rng.integers(0, 256, (60_000, 28, 28), np.uint8), rng.integers(0, 10, 60_000))
    many = jax.tree.map(lambda leaf: np.stack([leaf, leaf * np.float32(0.5)]), params)
    for batch_size in (1_000, 60_000):
        run = jax.jit(jax.vmap(lambda params: evaluate(spec, params, examples, batch_size=batch_size)))
        found = run(many)
        for index in range(2):
            params_i = jax.tree.map(lambda leaf: leaf[index], many)
            answers = np.concatenate(
                [np.asarray(apply(spec, params_i, part)).argmax(-1) for part in np.split(examples.images, 60)]
            )
            right = (answers == examples.labels).sum()
            assert int(found.confusion[index].sum()) == 60_000
            assert abs(int(found.confusion[index].trace()) - right) <= 3  # near-ties may fall either way


def test_nothing_to_evaluate_is_said(trained: tuple[Config, Fit], digits: Dataset) -> None:
    spec, params = trained[0].model, trained[1].state.params
    with pytest.raises(InputError, match="needs examples and a batch size of at least 1; got 0, 1000"):
        evaluate(spec, params, HeldOut(digits.test.images[:0], digits.test.labels[:0]))
    with pytest.raises(InputError, match="got 297, 0"):
        evaluate(spec, params, digits.test, batch_size=0)
