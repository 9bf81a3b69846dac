"""Devices that share the work of one program, as a mesh of one axis."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mnist_jax.errors import SpecError
from mnist_jax.types import Array

AXIS = "devices"

Devices = Sequence[jax.Device] | Mesh


def as_mesh(devices: Devices | None) -> Mesh | None:
    """Return devices as a mesh of one axis; None stays None, JAX's default device.

    Raises:
        SpecError: if there is none, one is there twice, or it is no device.
    """
    if devices is None:
        return None
    given = list(devices.devices.flat) if isinstance(devices, Mesh) else devices
    if not isinstance(given, list | tuple) or not all(isinstance(each, jax.Device) for each in given):
        raise SpecError(
            f"devices must be a list of JAX devices or a mesh; got {type(devices).__name__}; all of them: "
            "jax.devices()"
        )
    if not given or len(set(given)) < len(given):
        raise SpecError(
            f"devices must be one or more, each once; got {len(given)}, {len(set(given))} of them different"
        )
    return Mesh(np.asarray(given), (AXIS,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its rows are shared out over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what each device has a copy of."""
    return NamedSharding(mesh, PartitionSpec())


def replicate[Tree](tree: Tree, mesh: Mesh | None) -> Tree:
    """Copy arrays to each device of a mesh, or to JAX's default device for None.

    All processes must give the same values.
    """
    copied: Tree = jax.device_put(tree) if mesh is None else place(tree, replicated(mesh))
    return copied


def place[Tree](tree: Tree, sharding: NamedSharding) -> Tree:
    """Put arrays on the devices of a sharding, also of other processes, which must give the same values."""
    placed: Tree = jax.tree.map(lambda leaf: _place(leaf, sharding), tree)
    return placed


def _place(leaf: Any, sharding: NamedSharding) -> Any:
    if isinstance(leaf, jax.core.Tracer):
        return jax.lax.with_sharding_constraint(leaf, sharding)
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    return by_key_data(lambda leaf: _place_values(np.asarray(leaf), sharding), leaf)


def _place_values(values: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def by_key_data(function: Callable[[Any], jax.Array], leaf: Any) -> jax.Array:
    """Apply a function of arrays to an array; of typed keys, to their data, which NumPy can hold."""
    if not (isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)):
        return function(leaf)
    data = function(jax.random.key_data(leaf))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))


def split_rows(rows: Array, sharding: NamedSharding | None) -> Array:
    """Have the devices of a sharding each take their share of a batch's rows.

    Rows that they do not divide evenly stay whole on each of them.
    """
    if sharding is None or len(rows) % sharding.num_devices:
        return rows
    shared: Array = jax.lax.with_sharding_constraint(rows, sharding)
    return shared


def as_numpy[Tree](tree: Tree) -> Tree:
    """Copy arrays to NumPy, also from the devices of other processes, which all take part."""
    copied: Tree
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        copied = jax.tree.map(np.asarray, tree)
    else:
        from jax.experimental import multihost_utils

        copied = multihost_utils.process_allgather(tree, tiled=True)
    return copied


def any_process(flag: bool, mesh: Mesh | None) -> bool:
    """Whether a flag is set in any process that has devices of a mesh; all must ask."""
    if mesh is None or replicated(mesh).is_fully_addressable:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())
