"""Products in bfloat16 are what they would be anywhere, and on the CPU given to its matrix units."""

import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.products import product
from mnist_jax.types import Array

CPU = Path("/proc/cpuinfo")
SHAPES = [(256, 300, 100), (80, 784, 128), (32, 100, 10), (1, 7, 3), (3, 1, 1)]


def plain(left: Array, right: Array) -> Array:
    return left @ right


def factors(rows: int, inner: int, columns: int, *many: int) -> tuple[Array, Array, Array]:
    """Two matrices, and what the gradient is of their product."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (rows, inner), (inner, columns), (rows, columns)
    left, right, weights = (
        jax.random.normal(key, (*many, *shape), jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)
    )
    return left, right, weights


def gradients(of: Callable[[Array, Array], Array]) -> Callable[..., tuple[Array, Array]]:
    def loss(left: Array, right: Array, weights: Array) -> Array:
        return (of(left, right) * weights).sum(dtype=jnp.float32)

    return jax.grad(loss, argnums=(0, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mapped", [None, (0, 0, 0), (0, None, 0)], ids=str)
def test_it_is_the_product_and_so_are_its_gradients(
    shape: tuple[int, int, int], mapped: tuple[int | None, ...] | None
) -> None:
    arguments = factors(*shape, *(() if mapped is None else (3,)))
    if mapped is not None:
        arguments = tuple(a if axis == 0 else a[0] for a, axis in zip(arguments, mapped, strict=True))

    def found(function: Callable[..., object], *of: Array) -> list[np.ndarray]:
        function = function if mapped is None else jax.vmap(function, mapped[: len(of)])
        return [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(jax.jit(function)(*of))]

    np.testing.assert_array_equal(found(product, *arguments[:2]), found(plain, *arguments[:2]))
    ours, theirs = found(gradients(product), *arguments), found(gradients(plain), *arguments)
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, atol=2**-8 * abs(expected).max())  # bfloat16's last bit


def test_in_float32_it_is_left_alone() -> None:
    left, right = jnp.ones((4, 3)), jnp.ones((3, 2))
    assert str(jax.make_jaxpr(product)(left, right)) == str(jax.make_jaxpr(plain)(left, right))


@pytest.mark.skipif(
    not CPU.exists() or "amx_bf16" not in CPU.read_text() or jax.default_backend() != "cpu",
    reason="the CPU has no matrix units",
)
@pytest.mark.parametrize(("of", "products"), [(product, 3), (plain, 1)], ids=["ours", "plain"])
def test_matrix_units_get_all_three_products(of: Callable[[Array, Array], Array], products: int) -> None:
    """Those whose factors are bfloat16 to the end, and row by row.

    That plain ones are not is why there is `products` at all: if that fails, delete it.
    """
    step = jax.jit(lambda *arguments: (of(*arguments[:2]), gradients(of)(*arguments)))
    program = step.lower(*factors(256, 784, 500)).compile().as_text()
    header = r"^%fused_computation\S* \(\S+: bf16\[[\d,]+\], \S+: bf16\[[\d,]+\]\) -> "
    fused = re.findall(header + r".*\n(?:.*\n)*?}", program, re.MULTILINE)
    by_rows = "lhs_contracting_dims={1}, rhs_contracting_dims={0}"
    assert sum(by_rows in computation for computation in fused) == products
