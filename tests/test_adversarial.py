"""Adversarial training: its images worked out by hand, its steps, and what it is good for."""

import functools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import leaves_close

from mnist_jax import train as training
from mnist_jax.adversarial import fast_gradient_sign
from mnist_jax.augment import deform
from mnist_jax.datasets import Dataset
from mnist_jax.deformations import Deformation
from mnist_jax.errors import InputError, SpecError
from mnist_jax.loop import fit
from mnist_jax.metrics import cross_entropy
from mnist_jax.models import apply, scale
from mnist_jax.networks import CNN, MLP
from mnist_jax.optimizers import Optimizer
from mnist_jax.specs import Config, Hyper, from_json, to_json
from mnist_jax.sweep import fit_many
from mnist_jax.train import init_state, train_epoch, train_step
from mnist_jax.types import Examples, Params

KEY = jax.random.key(5)
CONFIG = Config(MLP((32,), ("relu",)), epochs=2, batch_size=50, adversarial=0.1)


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Examples:
    return Examples(digits.train.images[:220], digits.train.labels[:220])


def test_each_pixel_goes_its_distance_in_the_direction_of_its_slope() -> None:
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 28, 28)), jnp.float32).at[:, 0].set(0)
    pixels = jnp.full((3, 28, 28), 0.95)
    moved = fast_gradient_sign(lambda pixels: (weights * pixels).sum(), 0.1, pixels)
    np.testing.assert_array_equal(moved, pixels + 0.1 * np.sign(weights))
    assert float(moved.max()) > 1
    np.testing.assert_array_equal(moved[:, 0], pixels[:, 0])


def test_without_hidden_layers_the_direction_is_known(few: Examples) -> None:
    """There, the loss's slope by a pixel is the pixel's weights times what each class has too much."""
    spec = MLP((), ())
    params = init_state(Config(spec), KEY).params
    pixels = scale(few.images[:8])
    labels = jax.nn.one_hot(few.labels[:8].astype(np.int32), 10)
    (kernel,) = (leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2)
    too_much = jax.nn.softmax(apply(spec, params, pixels)) - labels
    expected = np.sign(np.asarray(too_much @ kernel.T)).reshape(8, 28, 28)

    def loss(pixels: jax.Array) -> jax.Array:
        return cross_entropy("softmax", apply(spec, params, pixels), few.labels[:8]).mean()

    np.testing.assert_allclose(fast_gradient_sign(loss, 0.25, pixels) - pixels, 0.25 * expected, atol=1e-6)


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
def test_a_step_follows_the_mean_over_both_copies(config: Config, few: Examples) -> None:
    """Written out: what is attacked is what the step sees, deformed and with the same units left out."""
    config = replace(config, optimizer=Optimizer("sgd"))
    start = init_state(config, KEY)
    deform_key, dropout_key = jax.random.split(training._step_key(start))
    pixels = scale(few.images)
    if config.deformation is not None:
        keys = jax.random.split(deform_key, len(pixels))
        pixels = jax.vmap(functools.partial(deform, config.deformation))(keys, pixels)

    def logits(params: Params, images: jax.Array) -> jax.Array:
        return apply(
            config.model, params, images, dtype=config.dtype, dropout=config.dropout, key=dropout_key
        )

    def loss(params: Params, images: jax.Array) -> jax.Array:
        return cross_entropy(config.model.output, logits(params, images), few.labels, 0.1).mean()

    harder = pixels + 0.1 * jnp.sign(jax.grad(loss, argnums=1)(start.params, pixels))
    losses = loss(start.params, pixels), loss(start.params, harder)
    assert losses[1] > losses[0]
    slopes = jax.grad(lambda params: (loss(params, pixels) + loss(params, harder)) / 2)(start.params)

    end, seen = train_step(config, Hyper(1.0, 0.0, 0.1), start, few)
    np.testing.assert_allclose(seen.loss, sum(losses) / 2, rtol=1e-5)
    expected = jax.tree.map(lambda leaf, slope: leaf - slope, start.params, slopes)
    leaves_close(end.params, expected, 1e-5)
    assert int(seen.size) == 220  # the copies are not examples
    assert int(seen.correct) == int((logits(start.params, pixels).argmax(-1) == np.int32(few.labels)).sum())


def test_an_epoch_is_its_steps(few: Examples) -> None:
    config = replace(CONFIG, deformation=Deformation(rotate=15, shift=1), dropout=0.2)
    start = init_state(config, KEY)
    whole, _ = jax.jit(functools.partial(train_epoch, config))(Hyper(), start, few)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(start.key, 0), 220))
    state = start
    for first in range(0, 220, 50):
        rows = order[first : first + 50]
        state, _ = train_step(config, Hyper(), state, Examples(few.images[rows], few.labels[rows]))
    leaves_close(whole.params, state.params, 2e-5)


def test_a_stopped_run_goes_on_to_the_same_bits(few: Examples) -> None:
    whole = fit(CONFIG, few, key=KEY)
    half = fit(CONFIG, few, key=KEY, callback=lambda record, _: record.epoch == 1)
    rest = fit(CONFIG, few, state=half.state)
    jax.tree.map(np.testing.assert_array_equal, whole.params, rest.params)


def test_a_member_of_many_is_its_lone_run(few: Examples) -> None:
    config = replace(CONFIG, epochs=1)
    keys = jax.random.split(KEY, 2)
    many = fit_many(config, few, keys=keys, hyper=Hyper())
    for member in range(2):
        leaves_close(many.member(member), fit(config, few, key=keys[member]).params, 1e-5)


def test_it_withstands_what_it_was_trained_against(digits: Dataset) -> None:
    labels = digits.validation.labels

    def under_attack(config: Config) -> float:
        run = fit(config, digits.train, key=KEY)

        def loss(pixels: jax.Array) -> jax.Array:
            return cross_entropy("softmax", apply(config.model, run.params, pixels), labels).mean()

        attacked = fast_gradient_sign(loss, 0.1, scale(digits.validation.images))
        return float((apply(config.model, run.params, attacked).argmax(-1) == np.int32(labels)).mean())

    config = replace(CONFIG, epochs=8)
    assert under_attack(config) > under_attack(replace(config, adversarial=0.0)) + 0.2


def test_the_distance_comes_back_from_json_and_is_checked() -> None:
    assert from_json(json.loads(json.dumps(to_json(CONFIG)))) == CONFIG
    for distance in (-0.1, 1.0, float("nan"), "far", None):
        with pytest.raises(SpecError, match=r"adversarial must be a number.*; got"):
            replace(CONFIG, adversarial=distance)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_batch_of_images_is_refused() -> None:
    with pytest.raises(InputError, match=r"images must be an array of shape \[batch, 28, 28\]; got"):
        fast_gradient_sign(jnp.sum, 0.1, np.zeros((28, 28), np.uint8))
    for distance in (float("nan"), -0.1, 1, "far"):
        with pytest.raises(SpecError, match=r"distance must be a number.*; got"):
            fast_gradient_sign(jnp.sum, distance, jnp.zeros((1, 28, 28)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"images must be uint8 .* got float64"):
        fast_gradient_sign(jnp.sum, 0.1, np.zeros((1, 28, 28)))
