"""Networks as pure functions: `init(spec, key) -> params` and `apply(spec, params, images) -> logits`."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from mnist_jax._utils.kept_programs import KEPT_PROGRAMS
from mnist_jax.config.input_checks import as_images, check_params, check_spec, is_traced
from mnist_jax.config.networks import (
    IMAGE_SHAPE,
    PIXEL_SCALE,
    Dtype,
    FlaxModel,
    Output,
    Spec,
    member_name,
    members_by_prefix,
)
from mnist_jax.config.pixel_checks import check_pixels
from mnist_jax.config.validation import check_choice, check_float
from mnist_jax.errors import SpecError
from mnist_jax.nn.flax_model import apply_module, init_variables
from mnist_jax.nn.keys import check_key
from mnist_jax.nn.modules import HIDDEN, module_of
from mnist_jax.parallel.mesh import Devices, as_mesh, batch_sharding, place, replicate
from mnist_jax.types import AnyArray, Array, Images, Key, Logits, Params

CHUNK_SIZE = 1000  # images that `predict` computes at a time


def init(spec: Spec, key: Key) -> Params:
    """Initialize the parameters of a network.

    Args:
        spec: network spec.
        key: a single typed key, such as `jax.random.key(0)`.

    Returns:
        A nested dict of float32 arrays. Layer `Dense_i` has a `kernel` `[in, out]` and a `bias` `[out]`; the
        kernel of `Conv_i` is `[height, width, in, out]`. An ensemble has a dict per member: `member_0`, ...;
        a `FlaxModel` one per collection: `params`, ...

    Raises:
        SpecError: if `spec` is not a network spec or `key` is not a single typed key.

    Examples:
        >>> import jax, mnist_jax
        >>> params = mnist_jax.init(mnist_jax.MLP((100,), ("relu",)), jax.random.key(0))
        >>> sorted(params), params["Dense_0"]["kernel"].shape
        (['Dense_0', 'Dense_1'], (784, 100))
    """
    check_spec(spec)
    check_key(key)
    if isinstance(spec, FlaxModel):
        return init_variables(spec, key)
    return cast(Params, module_of(spec).init(key, jnp.zeros((1, *IMAGE_SHAPE), jnp.float32))["params"])


def ensemble_params(members: Sequence[Params]) -> Params:
    """Combine the parameters of several networks into those of an `Ensemble`.

    Args:
        members: the parameters of each member, in the order of `Ensemble.members`.

    Returns:
        A dict with the members' parameters under `member_0`, `member_1` and so on.

    Raises:
        SpecError: if `members` is a single dict.

    Examples:
        >>> import jax, mnist_jax
        >>> members = [mnist_jax.init(mnist_jax.MLP((), ()), jax.random.key(seed)) for seed in (0, 1)]
        >>> sorted(mnist_jax.ensemble_params(members))
        ['member_0', 'member_1']
    """
    if isinstance(members, Mapping):
        raise SpecError("members must be several networks' parameters, in a list; got one dict")
    return {member_name(index): params for index, params in enumerate(members)}


def apply(
    spec: Spec,
    params: Params,
    images: Images,
    *,
    dtype: Dtype = "float32",
    dropout: float = 0.0,
    key: Key | None = None,
) -> Logits:
    """Compute the logits of a network. Forward-mode derivatives require float32.

    Args:
        spec: network spec.
        params: its parameters, from `init`.
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1; the range of float32 pixels is not checked.
        dtype: dtype in which the layers compute. With `bfloat16`, parameters and activations are rounded to
            it, as in mixed-precision training (Kalamkar et al. 2019).
        dropout: fraction of each hidden layer's outputs to drop, in [0, 1).
        key: a single typed key for dropout; required if `dropout` is above 0.

    Returns:
        Logits `[batch, classes]`, float32 for either dtype.

    Raises:
        InputError: if the shape or dtype of the images is wrong.
        SpecError: if `spec`, `params`, `dtype` or `dropout` is invalid, or there is dropout without a key.

    Examples:
        >>> import jax, mnist_jax
        >>> spec = mnist_jax.MLP((100,), ("relu",))
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> mnist_jax.apply(spec, params, jax.numpy.zeros((2, 28, 28))).shape
        (2, 10)
    """
    check_spec(spec)
    check_choice("dtype", dtype, get_args(Dtype))
    check_params(spec, params)
    images = as_images(images)
    if check_float("dropout", dropout, 0, 1):
        check_key(key)
    if isinstance(spec, FlaxModel):
        return apply_module(spec, params, to_unit_range(images))
    keys = None if key is None else {"dropout": key}
    network = module_of(spec, dtype, dropout)
    return cast(Logits, network.apply({"params": params}, to_unit_range(images), rngs=keys))


def intermediates(spec: Spec, params: Params, images: Images) -> tuple[jax.Array, ...]:
    """Compute the outputs of all hidden layers.

    Args:
        spec: network spec.
        params: its parameters.
        images: as in `apply`.

    Returns:
        The float32 outputs of each hidden layer after its activation, from the first to the last: `[batch,
        size]` for a dense layer, and `[batch, side, side, channels]` after pooling for a convolution. For an
        ensemble, those of all members in order; of a `FlaxModel`, none.

    Raises:
        InputError, SpecError: as `apply`.

    Examples:
        >>> import jax, mnist_jax
        >>> spec = mnist_jax.MLP((100, 20), ("relu", "tanh"))
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> [h.shape for h in mnist_jax.intermediates(spec, params, jax.numpy.zeros((2, 28, 28)))]
        [(2, 100), (2, 20)]
    """
    check_spec(spec)
    check_params(spec, params)
    images = as_images(images)
    if isinstance(spec, FlaxModel):
        return ()
    collection, name = HIDDEN
    _, sown = module_of(spec).apply({"params": params}, to_unit_range(images), mutable=collection)
    layers = sown.get(collection, {})
    members = [layers.get(prefix.rstrip("/"), {}) if prefix else layers for prefix in members_by_prefix(spec)]
    return tuple(layer for member in members for layer in member.get(name, ()))


def to_unit_range(
    images: UInt8[AnyArray, "*batch 28 28"] | Float32[AnyArray, "*batch 28 28"],
) -> Float32[Array, "*batch 28 28"]:
    """Convert one or more images to float32 in 0..1; float32 images are returned unchanged."""
    pixels = jnp.asarray(images)
    return pixels.astype(jnp.float32) * jnp.float32(PIXEL_SCALE) if pixels.dtype == jnp.uint8 else pixels


def probabilities(output: Output, logits: Logits) -> Logits:
    """Convert logits to probabilities by softmax, or by sigmoids, which need not sum to one.

    The logits are computed apart: compiled together with a softmax, XLA makes numbers of NaN on the CPU.
    """
    logits = jax.lax.optimization_barrier(logits)
    return jax.nn.softmax(logits) if output == "softmax" else jax.nn.sigmoid(logits)


@jax.transfer_guard("allow")  # these transfers are intended, even if the caller forbids implicit ones
def predict(spec: Spec, params: Params, images: Images, *, devices: Devices | None = None) -> Logits:
    """Compute class probabilities `[batch, classes]`; the predicted class is their argmax.

    Images are computed up to 1,000 at a time, by a compiled program; during tracing all at once.

    Args:
        spec: network spec.
        params: its parameters.
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1.
        devices: share the images out, as in `fit`; None for JAX's default device.

    Returns:
        Probabilities, float32: softmax, or independent sigmoids if `spec.output` is `sigmoid`.

    Raises:
        InputError: as `apply`; or, except during tracing, if a float32 pixel is outside 0..1.
        SpecError: as `apply`; or `devices` are given during tracing.

    Examples:
        >>> import jax, mnist_jax
        >>> spec = mnist_jax.MLP((100,), ("relu",))
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> probabilities = mnist_jax.predict(spec, params, jax.numpy.zeros((2, 28, 28)))
        >>> probabilities.shape, probabilities.argmax(axis=-1).shape
        ((2, 10), (2,))
    """
    check_spec(spec)
    check_params(spec, params)
    images = as_images(images)
    check_pixels(images)
    mesh = as_mesh(devices)
    traced = any(map(is_traced, jax.tree.leaves((params, images))))
    if traced and mesh is not None:
        raise SpecError("devices must be None inside jit, where those of `images` count; leave them out")
    if traced or not len(images):
        return probabilities(spec.output, apply(spec, params, images))
    chunks = rows_in_chunks(len(images), 1 if mesh is None else mesh.size)
    program = _program(spec)
    if mesh is None:
        parts = [program(params, images[rows]) for rows in chunks]
    else:
        params, sharding = replicate(params, mesh), batch_sharding(mesh)
        shared = (program(params, place(images[rows], sharding)) for rows in chunks)
        parts = [replicate(part, mesh) for part in shared]
    return jnp.asarray(np.concatenate([np.asarray(part) for part in parts])[: len(images)])


def rows_in_chunks(count: int, shares: int = 1) -> np.ndarray:
    """The numbers of rows in chunks of one size, so that one program computes all of them.

    The size is a power of two up to 1,000, so that few programs serve any number of rows.

    Args:
        count: the number of rows, at least 1.
        shares: what divides the size of a chunk.

    Returns:
        int `[chunks, size]`; the last row fills up the last chunk.
    """
    size = -(-min(1 << (count - 1).bit_length(), CHUNK_SIZE) // shares) * shares
    filled: np.ndarray = np.minimum(np.arange(-(-count // size) * size), count - 1)
    return filled.reshape(-1, size)


@functools.lru_cache(KEPT_PROGRAMS)
def _program(spec: Spec) -> Any:
    def predict(params: Params, images: Array) -> Logits:
        return probabilities(spec.output, apply(spec, params, images))

    return jax.jit(predict)
