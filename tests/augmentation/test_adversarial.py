"""Adversarial training: its images computed by hand, its steps, and its effect."""

import functools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.trees import leaves_close

from mnist_jax.augmentation.adversarial import fgsm
from mnist_jax.augmentation.deform import deform
from mnist_jax.config.deformation import Deformation
from mnist_jax.config.networks import CNN, MLP
from mnist_jax.config.optimizers import Optimizer
from mnist_jax.config.serialization import from_json, to_json
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples
from mnist_jax.errors import InputError, SpecError
from mnist_jax.evaluation.metrics import cross_entropy
from mnist_jax.nn.model import apply, to_unit_range
from mnist_jax.training import step as training
from mnist_jax.training.loop import fit
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_epoch, train_step
from mnist_jax.training.sweep import fit_many
from mnist_jax.types import Params

KEY = jax.random.key(5)
CONFIG = Config(MLP((32,), ("relu",)), epochs=2, batch_size=50, fgsm_epsilon=0.1)


@pytest.fixture(scope="module")
def examples(digits: Dataset) -> Examples:
    return Examples(digits.train.images[:220], digits.train.labels[:220])


def test_fgsm_moves_each_pixel_by_epsilon_times_the_sign_of_its_gradient() -> None:
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 28, 28)), jnp.float32).at[:, 0].set(0)
    pixels = jnp.full((3, 28, 28), 0.95)
    adversarial = fgsm(lambda pixels: (weights * pixels).sum(), 0.1, pixels)
    np.testing.assert_array_equal(adversarial, pixels + 0.1 * np.sign(weights))
    assert float(adversarial.max()) > 1
    np.testing.assert_array_equal(adversarial[:, 0], pixels[:, 0])


def test_fgsm_of_a_linear_network_equals_the_gradient_by_hand(examples: Examples) -> None:
    """The gradient by a pixel is the pixel's weights times (probabilities - one-hot labels)."""
    spec = MLP((), ())
    params = init_state(Config(spec), KEY).params
    pixels = to_unit_range(examples.images[:8])
    labels = jax.nn.one_hot(examples.labels[:8].astype(np.int32), 10)
    (kernel,) = (leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2)
    residual = jax.nn.softmax(apply(spec, params, pixels)) - labels
    expected = np.sign(np.asarray(residual @ kernel.T)).reshape(8, 28, 28)

    def loss(pixels: jax.Array) -> jax.Array:
        return cross_entropy("softmax", apply(spec, params, pixels), examples.labels[:8]).mean()

    np.testing.assert_allclose(fgsm(loss, 0.25, pixels) - pixels, 0.25 * expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, model=MLP((32, 16), ("relu", "tanh"), "sigmoid"), dropout=0.3),
        replace(CONFIG, model=CNN((4,), 3, "max"), deformation=Deformation(rotate=15, shift=1)),
        replace(CONFIG, dtype="bfloat16"),
    ],
    ids=["mlp", "sigmoid with dropout", "cnn with deformation", "bfloat16"],
)
def test_a_step_minimizes_the_mean_loss_over_both_copies(config: Config, examples: Examples) -> None:
    """The attack starts from the images of the step: deformed, and with the same units dropped."""
    config = replace(config, optimizer=Optimizer("sgd"))
    start = init_state(config, KEY)
    deform_key, dropout_key = jax.random.split(training._step_key(start))
    pixels = to_unit_range(examples.images)
    if config.deformation is not None:
        keys = jax.random.split(deform_key, len(pixels))
        pixels = jax.vmap(functools.partial(deform, config.deformation))(keys, pixels)

    def logits(params: Params, images: jax.Array) -> jax.Array:
        return apply(
            config.model, params, images, dtype=config.dtype, dropout=config.dropout, key=dropout_key
        )

    def loss(params: Params, images: jax.Array) -> jax.Array:
        return cross_entropy(config.model.output, logits(params, images), examples.labels, 0.1).mean()

    adversarial = pixels + 0.1 * jnp.sign(jax.grad(loss, argnums=1)(start.params, pixels))
    losses = loss(start.params, pixels), loss(start.params, adversarial)
    assert losses[1] > losses[0]
    gradient = jax.grad(lambda params: (loss(params, pixels) + loss(params, adversarial)) / 2)(start.params)

    end, metrics = train_step(config, HyperParams(1.0, 0.0, 0.1), start, examples)
    np.testing.assert_allclose(metrics.loss, sum(losses) / 2, rtol=1e-5)
    expected = jax.tree.map(lambda leaf, slope: leaf - slope, start.params, gradient)
    leaves_close(end.params, expected, 1e-5)
    assert int(metrics.size) == 220  # the copies are not examples
    assert int(metrics.correct) == int(
        (logits(start.params, pixels).argmax(-1) == np.int32(examples.labels)).sum()
    )


@pytest.mark.slow
def test_an_epoch_equals_its_steps(examples: Examples) -> None:
    config = replace(CONFIG, deformation=Deformation(rotate=15, shift=1), dropout=0.2)
    start = init_state(config, KEY)
    whole, _ = jax.jit(functools.partial(train_epoch, config))(HyperParams(), start, examples)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(start.key, 0), 220))
    state = start
    for first in range(0, 220, 50):
        rows = order[first : first + 50]
        state, _ = train_step(
            config, HyperParams(), state, Examples(examples.images[rows], examples.labels[rows])
        )
    leaves_close(whole.params, state.params, 2e-5)


def test_a_resumed_run_is_bit_identical(examples: Examples) -> None:
    whole = fit(CONFIG, examples, key=KEY)
    half = fit(CONFIG, examples, key=KEY, callback=lambda record, _: record.epoch == 1)
    rest = fit(CONFIG, examples, state=half.state)
    jax.tree.map(np.testing.assert_array_equal, whole.params, rest.params)


@pytest.mark.slow
def test_a_run_of_fit_many_equals_fit(examples: Examples) -> None:
    config = replace(CONFIG, epochs=1)
    keys = jax.random.split(KEY, 2)
    many = fit_many(config, examples, keys=keys, hyperparams=HyperParams())
    for member in range(2):
        leaves_close(many.member(member), fit(config, examples, key=keys[member]).params, 1e-5)


def test_adversarial_training_improves_robustness_to_fgsm(digits: Dataset) -> None:
    labels = digits.validation.labels

    def accuracy_under_attack(config: Config) -> float:
        run = fit(config, digits.train, key=KEY)

        def loss(pixels: jax.Array) -> jax.Array:
            return cross_entropy("softmax", apply(config.model, run.params, pixels), labels).mean()

        attacked = fgsm(loss, 0.1, to_unit_range(digits.validation.images))
        return float((apply(config.model, run.params, attacked).argmax(-1) == np.int32(labels)).mean())

    config = replace(CONFIG, epochs=8)
    assert accuracy_under_attack(config) > accuracy_under_attack(replace(config, fgsm_epsilon=0.0)) + 0.2


def test_fgsm_epsilon_round_trips_through_json_and_is_validated() -> None:
    assert from_json(json.loads(json.dumps(to_json(CONFIG)))) == CONFIG
    for epsilon in (-0.1, 1.0, float("nan"), "far", None):
        with pytest.raises(SpecError, match=r"fgsm_epsilon must be a number.*; got"):
            replace(CONFIG, fgsm_epsilon=epsilon)


@pytest.mark.usefixtures("unchecked")
def test_fgsm_rejects_invalid_arguments() -> None:
    with pytest.raises(InputError, match=r"images must be an array of shape \[batch, 28, 28\]; got"):
        fgsm(jnp.sum, 0.1, np.zeros((28, 28), np.uint8))
    for epsilon in (float("nan"), -0.1, 1, "far"):
        with pytest.raises(SpecError, match=r"epsilon must be a number.*; got"):
            fgsm(jnp.sum, epsilon, jnp.zeros((1, 28, 28)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"images must be uint8 .* got float64"):
        fgsm(jnp.sum, 0.1, np.zeros((1, 28, 28)))
