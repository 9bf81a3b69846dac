"""Several processes that run one program together, on JAX's distributed runtime."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.errors import MnistJaxError, PeerError
from mnist_jax.parallel.mesh import by_key_data


def is_main() -> bool:
    """Whether this is the process that prints and writes: the only one, or the first of several."""
    return bool(jax.process_index() == 0)


def on_main[Value](read: Callable[[], Value]) -> Value:
    """Calls a function in the first process, and returns its plain value, as JSON keeps it, in all of them.

    Raises:
        MnistJaxError: what the function raised; a `PeerError` in the other processes.
    """
    if jax.process_count() == 1:
        return read()
    shared: Value
    value: Any = together(read if is_main() else lambda: None)
    content = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(_broadcast(len(content)))
    padded = content if is_main() else np.zeros(length, np.uint8)
    shared = json.loads(bytes(_broadcast(padded)))
    return shared


def together[Value](work: Callable[[], Value]) -> Value:
    """Calls a function in each process; where it fails in one of them, it fails in all.

    Raises:
        MnistJaxError: what the function raised here.
        PeerError: it failed in another process.
    """
    if jax.process_count() == 1:
        return work()
    from jax.experimental import multihost_utils

    error: MnistJaxError | None = None
    try:
        value = work()
    except MnistJaxError as caught:
        error = caught
    failed = np.flatnonzero(multihost_utils.process_allgather(np.asarray(error is not None)))
    if error is not None:
        raise error
    if failed.size:
        raise PeerError(f"all processes must be able to go on; process {failed[0]} is not: see its message")
    return value


def state_of_main[Tree](state: Tree) -> Tree:
    """The arrays of the first process, in all of them; those of the others give shapes and dtypes alone."""
    if jax.process_count() == 1:
        return state
    copied: Tree = jax.tree.map(partial(by_key_data, lambda leaf: jnp.asarray(_broadcast(leaf))), state)
    return copied


def _broadcast(array: Any) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(array)))


def local[Tree](tree: Tree) -> Tree:
    """Arrays that all devices have a copy of, as arrays of this process alone."""
    copied: Tree = jax.tree.map(_local_leaf, tree)
    return copied


def _local_leaf(leaf: jax.Array) -> jax.Array:
    if leaf.is_fully_addressable:
        return leaf
    return by_key_data(lambda leaf: jnp.asarray(np.asarray(leaf)), leaf)
