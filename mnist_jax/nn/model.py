"""Networks as pure functions: `init(spec, key) -> params` and `apply(spec, params, images) -> logits`.

This is the only module that imports Flax.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float32, UInt8

from mnist_jax.config.input_checks import as_images, check_params, check_spec
from mnist_jax.config.networks import (
    CNN,
    IMAGE_SHAPE,
    PIXEL_SCALE,
    Dtype,
    Ensemble,
    KernelInit,
    Network,
    Output,
    Spec,
    member_name,
    members_by_prefix,
)
from mnist_jax.config.pixel_checks import check_pixels
from mnist_jax.config.validation import check_choice, check_float
from mnist_jax.errors import SpecError
from mnist_jax.nn.convolution import convolve, pool
from mnist_jax.nn.keys import check_key
from mnist_jax.nn.matmul import dot_general
from mnist_jax.types import AnyArray, Array, Images, Key, Logits, Params

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
    "tanh": nn.tanh,
    "gelu": nn.gelu,
    "gelu_exact": functools.partial(nn.gelu, approximate=False),
    "elu": nn.elu,
    "selu": nn.selu,
    "silu": nn.silu,
    "swish": nn.silu,
    "leaky_relu": nn.leaky_relu,
    "softplus": nn.softplus,
    "hard_sigmoid": nn.hard_sigmoid,
    "hard_swish": nn.hard_swish,
    "mish": jax.nn.mish,
}
_INITIALIZERS: dict[KernelInit, nn.initializers.Initializer] = {
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "he_normal": nn.initializers.he_normal(),
}
_HIDDEN = "hidden", "layers"  # Flax collection and name of the sown outputs of hidden layers


class _Network(nn.Module):
    """An MLP or a CNN: pixels `[batch, 28, 28]` in 0..1 to logits `[batch, classes]`."""

    spec: Network
    dtype: Dtype = "float32"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        spec, init_fn = self.spec, _INITIALIZERS[self.spec.kernel_init]
        dense = functools.partial(nn.Dense, kernel_init=init_fn, dtype=self.dtype, dot_general=dot_general)
        conv = functools.partial(
            nn.Conv, kernel_init=init_fn, dtype=self.dtype, conv_general_dilated=convolve
        )
        drop = nn.Dropout(self.dropout, deterministic=not self.dropout)
        hidden = pixels
        if isinstance(spec, CNN):
            hidden = hidden[..., None]
            for channels, padding in zip(spec.channels, spec.padding, strict=True):
                hidden = conv(channels, (spec.kernel_size,) * 2, padding=padding.upper())(hidden)
                hidden = pool(spec.pool, _ACTIVATIONS[spec.activation](hidden))
                self.sow(*_HIDDEN, hidden)
                hidden = drop(hidden)
        hidden = hidden.reshape(len(hidden), math.prod(hidden.shape[1:]))  # -1 fails for an empty batch
        for width, activation in zip(spec.layer_sizes[1:-1], spec.activations, strict=True):
            hidden = _ACTIVATIONS[activation](dense(width)(hidden))
            self.sow(*_HIDDEN, hidden)
            hidden = drop(hidden)
        return dense(spec.num_classes)(hidden).astype(jnp.float32)


class _Ensemble(nn.Module):
    """An ensemble: pixels `[batch, 28, 28]` in 0..1 to the mean of its members' logits."""

    spec: Ensemble
    dtype: Dtype = "float32"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        logits = [
            _Network(member, self.dtype, self.dropout, name=prefix.rstrip("/"))(pixels)
            for prefix, member in members_by_prefix(self.spec).items()
        ]
        return functools.reduce(jnp.add, logits) * jnp.float32(1 / len(logits))


def _module(spec: Spec, dtype: Dtype = "float32", dropout: float = 0.0) -> nn.Module:
    if isinstance(spec, Ensemble):
        return _Ensemble(spec, dtype, dropout)
    return _Network(spec, dtype, dropout)


def init(spec: Spec, key: Key) -> Params:
    """Initialize the parameters of a network.

    Args:
        spec: network spec.
        key: a single typed key, such as `jax.random.key(0)`.

    Returns:
        A nested dict of float32 arrays. Layer `Dense_i` has a `kernel` `[in, out]` and a `bias` `[out]`; the
        kernel of `Conv_i` is `[height, width, in, out]`. An ensemble has a dict per member: `member_0`, ...

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
    return cast(Params, _module(spec).init(key, jnp.zeros((1, *IMAGE_SHAPE), jnp.float32))["params"])


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
    keys = None if key is None else {"dropout": key}
    network = _module(spec, dtype, dropout)
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
        ensemble, those of all members in order.

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
    collection, name = _HIDDEN
    _, sown = _module(spec).apply({"params": params}, to_unit_range(images), mutable=collection)
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
    """Convert logits to probabilities by softmax, or by sigmoids, which need not sum to one."""
    return nn.softmax(logits) if output == "softmax" else nn.sigmoid(logits)


def predict(spec: Spec, params: Params, images: Images) -> Logits:
    """Compute class probabilities `[batch, classes]`; the predicted class is their argmax.

    Args:
        spec: network spec.
        params: its parameters.
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1.

    Returns:
        Probabilities, float32: softmax, or independent sigmoids if `spec.output` is `sigmoid`.

    Raises:
        InputError: as `apply`; or, except during tracing, if a float32 pixel is outside 0..1.
        SpecError: as `apply`.

    Examples:
        >>> import jax, mnist_jax
        >>> spec = mnist_jax.MLP((100,), ("relu",))
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> probabilities = mnist_jax.predict(spec, params, jax.numpy.zeros((2, 28, 28)))
        >>> probabilities.shape, probabilities.argmax(axis=-1).shape
        ((2, 10), (2,))
    """
    images = as_images(images)
    check_pixels(images)
    return probabilities(spec.output, apply(spec, params, images))
