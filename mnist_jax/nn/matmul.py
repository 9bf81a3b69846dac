"""Matrix products in bfloat16 in the form that XLA compiles for a CPU's matrix units.

XLA uses these units (Intel AMX) well only for `[m, k] @ [k, n]` with both operands in row-major order. The
products of a gradient have a transposed operand, which XLA reads with strides or converts to float32, at a
quarter of the speed. Therefore one operand is transposed in memory first, but never the parameters
(docs/project/experiments.md).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from mnist_jax.types import Array


def dot_general(left: Array, right: Array, *how: Any, **named: Any) -> Array:
    """A replacement for `lax.dot_general` in `flax.linen.Dense`.

    Operands on several devices are left to `lax.dot_general`, which propagates their sharding.

    Args:
        left: inputs, `[m, k]`.
        right: kernel, `[k, n]`.
        *how: further arguments of `lax.dot_general`.
        **named: further keyword arguments of `lax.dot_general`.

    Returns:
        The product, `[m, n]`.
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
    result: tuple[Array, Array] = lax.platform_dependent(*factors, gradient, cpu=_by_rows, default=_directly)
    return result


_product.defvjp(_forward, _backward)


def _directly(left: Array, right: Array, gradient: Array) -> tuple[Array, Array]:
    return gradient @ right.T, left.T @ gradient


def _by_rows(left: Array, right: Array, gradient: Array) -> tuple[Array, Array]:
    """The same, without a transposed copy of `right`, the parameters."""
    # Without the barrier, XLA would turn this back into `gradient @ right.T`.
    left_gradient = lax.optimization_barrier(right @ _transposed(gradient)).T
    return left_gradient, _transposed(left) @ gradient


def _transposed(matrix: Array) -> Array:
    """The transpose as a row-major array in memory, not as a view."""
    rows: Array = with_layout_constraint(matrix.T, Layout(major_to_minor=(0, 1)))
    return rows
