"""`init` and `apply` of Flax modules, with their mutable collections."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax.config.networks import IMAGE_SHAPE
from mnist_jax.config.networks.flax_model import FlaxModel
from mnist_jax.config.validation import shorten
from mnist_jax.errors import SpecError
from mnist_jax.types import Array, Key, Logits, Params

TRAINABLE = "params"  # Flax's name of the collection that is trained


def init_variables(spec: FlaxModel, key: Key) -> Params:
    """Initialize the variables of a module, as a nested dict with a key for each collection."""
    params_key, dropout_key = jax.random.split(key)
    variables = spec.require_module().init(
        {"params": params_key, "dropout": dropout_key},
        jnp.zeros((1, *IMAGE_SHAPE), jnp.float32),
        **spec.mode(training=False),
    )
    plain = _plain(variables)
    if not isinstance(plain, dict) or TRAINABLE not in plain:
        raise SpecError(f"{spec.name} must have trainable parameters; its init returned none")
    for leaf in jax.tree.leaves(plain[TRAINABLE]):
        if leaf.dtype != jnp.float32:
            raise SpecError(f"{spec.name} must have float32 parameters; got {leaf.dtype}; see param_dtype")
    return plain


def split_variables(variables: Params) -> tuple[Params, Params | None]:
    """Separate what is trained from the collections that the module itself updates; None for none."""
    rest = {name: values for name, values in variables.items() if name != TRAINABLE}
    return {TRAINABLE: variables[TRAINABLE]}, rest or None


def apply_module(spec: FlaxModel, variables: Params, pixels: Array) -> Logits:
    """Compute logits as in evaluation."""
    try:
        logits = spec.require_module().apply(variables, pixels, **spec.mode(training=False))
    except Exception as error:
        if type(error).__name__ != "InvalidRngError":  # of Flax, which this module need not import
            raise
        raise SpecError(
            f"{spec.name} must compute without random numbers in evaluation; {shorten(error, 120)}; draw "
            "them only where its argument `train` is true"
        ) from None
    return _checked(spec, logits, len(pixels))


def apply_in_training(
    spec: FlaxModel, variables: Params, pixels: Array, key: Key
) -> tuple[Logits, Params | None]:
    """Compute logits as in training, and the collections that the module updates; None for none.

    Args:
        spec: the spec.
        variables: all collections.
        pixels: float32 `[batch, 28, 28]`.
        key: a single typed key, for dropout and for random numbers of the module's own.
    """
    rngs = {"dropout": key, "params": jax.random.fold_in(key, 1)}  # Flax draws all other streams from params
    mutable = [name for name in variables if name != TRAINABLE]
    result = spec.require_module().apply(
        variables, pixels, **spec.mode(training=True), rngs=rngs, mutable=mutable or False
    )
    if not mutable:
        return _checked(spec, result, len(pixels)), None
    logits, updated = result  # without the collections that were not touched
    rest = {name: _plain(updated.get(name, variables[name])) for name in mutable}
    return _checked(spec, logits, len(pixels)), rest


def _checked(spec: FlaxModel, logits: Any, count: int) -> Logits:
    shape = getattr(logits, "shape", None)
    if shape != (count, spec.num_classes) or not jnp.issubdtype(logits.dtype, jnp.floating):
        got = type(logits).__name__ if shape is None else f"{logits.dtype} {list(shape)}"
        raise SpecError(f"{spec.name} must return logits [batch, {spec.num_classes}]; got {got}")
    return jnp.asarray(logits, jnp.float32)


def _plain(variables: Any) -> Any:
    """Nested mappings, such as Flax's FrozenDict, as plain dicts; boxed arrays as arrays."""
    if isinstance(variables, Mapping):
        return {name: _plain(value) for name, value in variables.items()}
    return variables.unbox() if hasattr(variables, "unbox") else variables
