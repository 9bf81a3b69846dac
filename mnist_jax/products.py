"""Matrix products in bfloat16, in the form in which a CPU's matrix units are given them.

XLA makes good use of those units (Intel's AMX) only for `[m, k] @ [k, n]` with both matrices lying row by row
in memory. Those of a gradient have one the other way round: they are read across, or done in float32, at a
quarter of the speed. So there one is turned in memory first, and never the parameters (bench/NOTES.md).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from mnist_jax.types import Array


def product(left: Array, right: Array, *how: Any, **named: Any) -> Array:
    """`lax.dot_general` as `flax.linen.Dense` calls it: of `[m, k]` and `[k, n]`.

    What lies on several devices is multiplied as ever: there JAX must see what becomes of each axis.
    """
    one_device = all(jax.typeof(factor).sharding.mesh.empty for factor in (left, right))
    if left.dtype == jnp.bfloat16 and one_device:
        assert left.ndim == right.ndim == 2
        return _product(left, right)
    return lax.dot_general(left, right, *how, **named)


@jax.custom_vjp
def _product(left: Array, right: Array) -> Array:
    return left @ right


def _forward(left: Array, right: Array) -> tuple[Array, tuple[Array, Array]]:
    return left @ right, (left, right)


def _backward(factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    found: tuple[Array, Array] = lax.platform_dependent(*factors, gradient, cpu=_by_rows, default=_directly)
    return found


_product.defvjp(_forward, _backward)


def _directly(left: Array, right: Array, gradient: Array) -> tuple[Array, Array]:
    return gradient @ right.T, left.T @ gradient


def _by_rows(left: Array, right: Array, gradient: Array) -> tuple[Array, Array]:
    """The same with `right`, the parameters, as they lie in memory."""
    # Without the barrier XLA would make `gradient @ right.T` of it again.
    for_left = lax.optimization_barrier(right @ _turned(gradient)).T
    return for_left, _turned(left) @ gradient


def _turned(matrix: Array) -> Array:
    """The transposed matrix as one in memory, and not as another way to read it."""
    rows: Array = with_layout_constraint(matrix.T, Layout(major_to_minor=(0, 1)))
    return rows
