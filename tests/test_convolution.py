"""The convolution that is fast on the CPU is the ordinary one, and only the CPU gets it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from mnist_jax import convolution
from mnist_jax.convolution import convolve, pool
from mnist_jax.types import Array

KEY = jax.random.key(3)


def ordinary(pictures: Array, kernel: Array, strides: object, padding: str) -> Array:
    del strides
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(pictures, kernel, (1, 1), padding, dimension_numbers=dimensions)


def close(found: Array, expected: Array) -> None:
    """Within 1e-5 of the largest, which is what float32 leaves of sums."""
    scale = max(1.0, float(abs(expected).max()))
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(1, 7),
    side=st.integers(7, 16),
    channels=st.sampled_from([1, 3, 16]),
    out=st.sampled_from([1, 5, 40, 130]),
    padding=st.sampled_from(["SAME", "VALID"]),
)
def test_it_is_an_ordinary_convolution_and_so_are_its_gradients(
    size: int, side: int, channels: int, out: int, padding: str
) -> None:
    keys = jax.random.split(KEY, 3)
    pictures = jax.random.normal(keys[0], (3, side, side, channels))
    kernel = jax.random.normal(keys[1], (size, size, channels, out))
    results = side if padding == "SAME" else side - size + 1
    weights = jax.random.normal(keys[2], (3, results, results, out))

    def loss(function: object, pictures: Array, kernel: Array) -> tuple[Array, Array]:
        found = function(pictures, kernel, (1, 1), padding)
        return (found * weights).sum(), found

    values = [
        jax.jit(jax.value_and_grad(functools.partial(loss, function), (0, 1), has_aux=True))(pictures, kernel)
        for function in (convolve, ordinary)
    ]
    jax.tree.map(close, *((found[0][1], found[1]) for found in values))


@pytest.mark.parametrize(("size", "out"), [(5, 6), (3, 32), (3, 64), (5, 16)])
def test_many_at_once_are_each_alone(size: int, out: int) -> None:
    pictures = jax.random.normal(KEY, (4, 2, 14, 14, 3))
    kernels = jax.random.normal(KEY, (4, size, size, 3, out))
    run = functools.partial(convolve, strides=(1, 1), padding="SAME")
    close(
        jax.vmap(run)(pictures, kernels),
        jnp.stack([run(*pair) for pair in zip(pictures, kernels, strict=True)]),
    )


@pytest.mark.parametrize("side", [2, 7, 28])
def test_pooling_is_the_ordinary_one(side: int) -> None:
    pictures = jax.random.normal(KEY, (2, side, side, 3))
    window = functools.partial(
        lax.reduce_window, window_dimensions=(1, 2, 2, 1), window_strides=(1, 2, 2, 1), padding="VALID"
    )
    np.testing.assert_array_equal(pool("max", pictures), window(pictures, -jnp.inf, lax.max))
    close(pool("average", pictures), window(pictures, 0.0, lax.add) / 4)


def test_only_the_cpu_gets_products_for_it() -> None:
    def run(pictures: Array, kernel: Array) -> Array:
        return jax.grad(lambda kernel: convolve(pictures, kernel, (1, 1), "SAME").sum())(kernel)

    traced = jax.jit(run).trace(jnp.zeros((2, 28, 28, 1)), jnp.zeros((5, 5, 1, 6)))
    for platform, has in (("cpu", False), ("cuda", True), ("tpu", True)):
        assert ("stablehlo.convolution" in traced.lower(lowering_platforms=(platform,)).as_text()) == has


def test_blocks_are_as_large_as_products_can_use() -> None:
    # (kernel, out, results): LeNet-5's two convolutions, then those of the network of 32 and 64 channels.
    rows = {(5, 6, 28): 4, (5, 16, 10): 2, (3, 32, 28): 2, (3, 64, 14): 1, (1, 6, 28): 1, (5, 6, 27): 1}
    assert {row: convolution._block(*row) for row in rows} == rows
