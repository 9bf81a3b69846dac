"""Checks of PRNG keys."""

from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax.errors import SpecError


def check_key(key: Any) -> None:
    """Checks a single PRNG key.

    Raises:
        SpecError: it is not one typed key.
    """
    check_typed_keys("key must be one typed key, such as jax.random.key(0)", key, ndim=0)


def check_typed_keys(rule: str, keys: Any, *, ndim: int) -> None:
    """Checks an array of typed PRNG keys.

    Args:
        rule: what must hold; the first part of the error message.
        keys: the value to check.
        ndim: the number of axes that it must have, none of them empty.

    Raises:
        SpecError: it is not such an array.
    """
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if not typed or keys.ndim != ndim or 0 in keys.shape:
        got = f"{keys.dtype}{list(keys.shape)}" if isinstance(keys, jax.Array) else repr(keys)
        raise SpecError(f"{rule}; got {got}")
