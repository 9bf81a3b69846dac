"""Inspection: intermediates, saliency and dead units agree with the network's layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.config.networks import CNN, MLP, Spec
from mnist_jax.errors import SpecError
from mnist_jax.evaluation.inspection import dead_units, saliency
from mnist_jax.nn.model import apply, init, intermediates

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
SPECS = [MLP((7, 6), ("relu", "tanh")), CNN((3, 4), 3, "max", (6,))]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_last_intermediate_determines_the_logits(spec: Spec) -> None:
    params = init(spec, jax.random.key(0))
    *_, last = intermediates(spec, params, IMAGES)
    dense = jax.tree.map(np.asarray, params[max(name for name in params if name.startswith("Dense"))])
    expected = np.asarray(last) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(apply(spec, params, IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_intermediates_are_in_order_with_their_shapes() -> None:
    shapes = [
        [layer.shape for layer in intermediates(spec, init(spec, jax.random.key(0)), IMAGES)]
        for spec in SPECS
    ]
    assert shapes == [[(5, 7), (5, 6)], [(5, 14, 14, 3), (5, 7, 7, 4), (5, 6)]]


def test_the_first_intermediate_equals_numpy() -> None:
    spec = MLP((7,), ("relu",))
    params = jax.tree.map(np.asarray, init(spec, jax.random.key(1)))
    pixels = IMAGES.reshape(5, 784).astype(np.float32) / 255
    expected = np.maximum(pixels @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    np.testing.assert_allclose(intermediates(spec, params, IMAGES)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_linear_network_has_no_hidden_layer() -> None:
    spec = MLP((), ())
    params = init(spec, jax.random.key(0))
    assert intermediates(spec, params, IMAGES) == ()
    with pytest.raises(SpecError, match=r"needs a network with a hidden layer; got 784-10"):
        dead_units(spec, params, IMAGES)


def test_saliency_of_a_linear_network_is_its_weights() -> None:
    spec = MLP((), ())
    params = init(spec, jax.random.key(0))
    winners = apply(spec, params, IMAGES).argmax(axis=-1)
    expected = jnp.abs(params["Dense_0"]["kernel"].T[winners]).reshape(5, 28, 28)
    np.testing.assert_allclose(saliency(spec, params, IMAGES), expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_saliency_equals_a_finite_difference(spec: Spec) -> None:
    params = init(spec, jax.random.key(0))
    pixels = IMAGES[:1].astype(np.float32) / 255
    maps = np.asarray(saliency(spec, params, pixels))[0]
    winner = int(apply(spec, params, pixels).argmax())
    row, column = np.unravel_index(maps.argmax(), maps.shape)
    ends = np.concatenate([pixels, pixels])
    ends[:, row, column] += (-1e-2, 1e-2)
    low, high = apply(spec, params, ends)[:, winner]
    assert abs(float(high - low)) / 2e-2 == pytest.approx(maps.max(), rel=0.05)


def test_dead_units_are_found() -> None:
    spec = MLP((4,), ("relu",))
    params = jax.tree.map(np.array, init(spec, jax.random.key(0)))
    params["Dense_0"]["bias"][[1, 3]] = -1e6, 1e3
    assert dead_units(spec, params, IMAGES).tolist() == [False, True, False, False]
