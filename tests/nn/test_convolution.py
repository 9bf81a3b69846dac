"""The CPU's convolution equals XLA's, and only the CPU uses it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from mnist_jax.nn import convolution
from mnist_jax.nn.convolution import convolve, pool
from mnist_jax.types import Array

KEY = jax.random.key(3)


def reference(images: Array, kernel: Array, strides: object, padding: str) -> Array:
    del strides
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=dimensions)


def close(result: Array, expected: Array) -> None:
    """Within 1e-5 of the largest value, the precision of float32 sums."""
    scale = max(1.0, float(abs(expected).max()))
    np.testing.assert_allclose(result / scale, expected / scale, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(1, 7),
    side=st.integers(7, 16),
    channels=st.sampled_from([1, 3, 16]),
    out=st.sampled_from([1, 5, 40, 130]),
    padding=st.sampled_from(["SAME", "VALID"]),
)
def test_convolve_and_its_gradients_equal_xlas(
    size: int, side: int, channels: int, out: int, padding: str
) -> None:
    keys = jax.random.split(KEY, 3)
    images = jax.random.normal(keys[0], (3, side, side, channels))
    kernel = jax.random.normal(keys[1], (size, size, channels, out))
    results = side if padding == "SAME" else side - size + 1
    weights = jax.random.normal(keys[2], (3, results, results, out))

    def loss(function: object, images: Array, kernel: Array) -> tuple[Array, Array]:
        result = function(images, kernel, (1, 1), padding)
        return (result * weights).sum(), result

    values = [
        jax.jit(jax.value_and_grad(functools.partial(loss, function), (0, 1), has_aux=True))(images, kernel)
        for function in (convolve, reference)
    ]
    jax.tree.map(close, *((value[0][1], value[1]) for value in values))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "out"), [(5, 6), (3, 32), (3, 64), (5, 16)])
def test_vmap_equals_separate_calls(size: int, out: int) -> None:
    images = jax.random.normal(KEY, (4, 2, 14, 14, 3))
    kernels = jax.random.normal(KEY, (4, size, size, 3, out))
    run = functools.partial(convolve, strides=(1, 1), padding="SAME")
    close(
        jax.vmap(run)(images, kernels),
        jnp.stack([run(*pair) for pair in zip(images, kernels, strict=True)]),
    )


@pytest.mark.parametrize("side", [2, 7, 28])
def test_pooling_equals_a_window_reduction(side: int) -> None:
    images = jax.random.normal(KEY, (2, side, side, 3))
    window = functools.partial(
        lax.reduce_window, window_dimensions=(1, 2, 2, 1), window_strides=(1, 2, 2, 1), padding="VALID"
    )
    np.testing.assert_array_equal(pool("max", images), window(images, -jnp.inf, lax.max))
    close(pool("average", images), window(images, 0.0, lax.add) / 4)


def test_only_the_cpu_uses_matrix_products() -> None:
    def run(images: Array, kernel: Array) -> Array:
        return jax.grad(lambda kernel: convolve(images, kernel, (1, 1), "SAME").sum())(kernel)

    traced = jax.jit(run).trace(jnp.zeros((2, 28, 28, 1)), jnp.zeros((5, 5, 1, 6)))
    for platform, has in (("cpu", False), ("cuda", True), ("tpu", True)):
        assert ("stablehlo.convolution" in traced.lower(lowering_platforms=(platform,)).as_text()) == has


def test_block_sizes() -> None:
    # (kernel size, output channels, output side): the convolutions of LeNet-5, of cnn-32-64, and others.
    rows = {(5, 6, 28): 4, (5, 16, 10): 2, (3, 32, 28): 2, (3, 64, 14): 1, (1, 6, 28): 1, (5, 6, 27): 1}
    assert {row: convolution._block(*row) for row in rows} == rows
