"""The CPU's convolution equals XLA's, and only the CPU uses it."""

import functools
from collections.abc import Callable

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


def reference(images: Array, kernel: Array, bias: Array, padding: str) -> Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    result = lax.conv_general_dilated(images, kernel, (1, 1), padding.upper(), dimension_numbers=dimensions)
    return result + bias[None, None, None]


def operands(batch: int, side: int, size: int, channels: int, out: int) -> tuple[Array, Array, Array]:
    """Random images, a kernel and a bias."""
    keys = jax.random.split(KEY, 3)
    shapes = (batch, side, side, channels), (size, size, channels, out), (out,)
    return tuple(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))


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
    padding=st.sampled_from(["same", "valid"]),
)
def test_convolve_and_its_gradients_equal_xlas(
    size: int, side: int, channels: int, out: int, padding: str
) -> None:
    images, kernel, bias = operands(3, side, size, channels, out)
    results = side if padding == "same" else side - size + 1
    weights = jax.random.normal(KEY, (3, results, results, out))

    def loss(function: object, *operands: Array) -> tuple[Array, Array]:
        result = function(*operands, padding)
        return (result * weights).sum(), result

    values = [
        jax.jit(jax.value_and_grad(functools.partial(loss, function), (0, 1, 2), has_aux=True))(
            images, kernel, bias
        )
        for function in (convolve, reference)
    ]
    jax.tree.map(close, *((value[0][1], value[1]) for value in values))


@pytest.mark.parametrize(
    ("side", "size", "channels", "out"), [(14, 3, 16, 5), (10, 3, 17, 3), (17, 5, 16, 2)]
)
def test_the_two_forms_and_their_gradients_are_equal(side: int, size: int, channels: int, out: int) -> None:
    given = operands(2, side, size, channels, out)
    assert convolution._suits_library(*given[:2])

    def gradients(form: Callable[..., Array]) -> Callable[..., tuple[Array, ...]]:
        return jax.jit(jax.grad(lambda *given: jnp.tanh(form(*given)).sum(), (0, 1, 2)))

    expected = convolution._directly(*given), *gradients(convolution._directly)(*given)
    for form in (convolution._by_library, convolution._by_blocks):
        jax.tree.map(close, (form(*given), *gradients(form)(*given)), expected)


@pytest.mark.parametrize("form", [convolution._by_library, convolution._by_blocks])
def test_every_kind_of_derivative_works(form: Callable[..., Array]) -> None:
    """Forward mode, second derivatives and several kernels at once are those of XLA's convolution."""
    images, kernel, bias = operands(2, 9, 3, 16, 3)

    def loss(form: Callable[..., Array], kernel: Array) -> Array:
        return jnp.tanh(form(images, kernel, bias)).sum()

    for derive in (
        lambda loss: jax.jvp(loss, (kernel,), (kernel,))[1],
        lambda loss: jax.jvp(jax.grad(loss), (kernel,), (kernel,))[1],
        lambda loss: jax.vmap(jax.grad(loss))(jnp.stack([kernel, -kernel])),
    ):
        close(*(derive(functools.partial(loss, each)) for each in (form, convolution._directly)))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "channels", "out"), [(5, 3, 6), (3, 3, 32), (3, 16, 64), (5, 3, 16)])
def test_vmap_equals_separate_calls(size: int, channels: int, out: int) -> None:
    images = jax.random.normal(KEY, (4, 2, 14, 14, channels))
    kernels = jax.random.normal(KEY, (4, size, size, channels, out))
    run = functools.partial(convolve, bias=jnp.ones(out), padding="same")
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


def test_average_pooling_has_the_gradient_of_a_window_reduction() -> None:
    images = jax.random.normal(KEY, (2, 7, 7, 3))

    def reduction(images: Array) -> Array:
        return lax.reduce_window(images, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4

    gradients = [
        jax.grad(lambda images, pooled=pooled: jnp.tanh(pooled(images)).sum())(images)
        for pooled in (functools.partial(pool, "average"), reduction)
    ]
    close(*gradients)


def test_only_the_cpu_uses_matrix_products() -> None:
    def run(images: Array, kernel: Array) -> Array:
        return jax.grad(lambda kernel: convolve(images, kernel, jnp.zeros(6), "same").sum())(kernel)

    traced = jax.jit(run).trace(jnp.zeros((2, 28, 28, 1)), jnp.zeros((5, 5, 1, 6)))
    for platform, has in (("cpu", False), ("cuda", True), ("tpu", True)):
        assert ("stablehlo.convolution" in traced.lower(lowering_platforms=(platform,)).as_text()) == has


def test_block_sizes() -> None:
    # (kernel size, output channels, output side): the convolutions of LeNet-5, of cnn-32-64, and others.
    rows = {(5, 6, 28): 4, (5, 16, 10): 2, (3, 32, 28): 2, (3, 64, 14): 1, (1, 6, 28): 1, (5, 6, 27): 1}
    assert {row: convolution._block(*row) for row in rows} == rows
