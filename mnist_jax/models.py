"""A spec becomes two pure functions: `init(spec, key) -> params` and `apply(spec, params, images) -> logits`.

The only file that imports Flax.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float32, UInt8

from mnist_jax.checks import as_images, check_params, check_pixels, check_spec
from mnist_jax.convolution import convolve, pool
from mnist_jax.errors import SpecError
from mnist_jax.networks import (
    CLASSES,
    CNN,
    IMAGE_SHAPE,
    Activation,
    Dtype,
    Ensemble,
    Initializer,
    Network,
    Output,
    Spec,
    member_name,
    parts,
)
from mnist_jax.products import product
from mnist_jax.settings import check_one_of, check_real
from mnist_jax.types import AnyArray, Array, Images, Key, Logits, Params

_ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
    "tanh": nn.tanh,
    "gelu": nn.gelu,
}
_INITIALIZERS: dict[Initializer, nn.initializers.Initializer] = {
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "he_normal": nn.initializers.he_normal(),
}
_HIDDEN = "hidden", "layers"  # where Flax keeps what is sown, when it is asked to


class _Network(nn.Module):
    """Pixels `[batch, 28, 28]` in 0..1 to logits `[batch, 10]`."""

    spec: Network
    dtype: Dtype = "float32"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        spec, initializer = self.spec, _INITIALIZERS[self.spec.initializer]
        dense = functools.partial(nn.Dense, kernel_init=initializer, dtype=self.dtype, dot_general=product)
        drop = nn.Dropout(self.dropout, deterministic=not self.dropout)
        hidden = pixels
        if isinstance(spec, CNN):
            hidden = hidden[..., None]
            for channels, padding in zip(spec.channels, spec.padding, strict=True):
                convolution = nn.Conv(
                    channels,
                    (spec.kernel, spec.kernel),
                    padding=padding.upper(),
                    kernel_init=initializer,
                    dtype=self.dtype,
                    conv_general_dilated=convolve,
                )
                hidden = pool(spec.pool, _ACTIVATIONS[spec.activation](convolution(hidden)))
                self.sow(*_HIDDEN, hidden)
                hidden = drop(hidden)
        hidden = hidden.reshape(len(hidden), math.prod(hidden.shape[1:]))  # -1 is not known of no image
        for width, activation in zip(spec.widths[1:-1], spec.activations, strict=True):
            hidden = _ACTIVATIONS[activation](dense(width)(hidden))
            self.sow(*_HIDDEN, hidden)
            hidden = drop(hidden)
        return dense(CLASSES)(hidden).astype(jnp.float32)


class _Ensemble(nn.Module):
    """The mean of its members' logits."""

    spec: Ensemble
    dtype: Dtype = "float32"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        logits = [
            _Network(member, self.dtype, self.dropout, name=prefix.rstrip("/"))(pixels)
            for prefix, member in parts(self.spec).items()
        ]
        return functools.reduce(jnp.add, logits) * jnp.float32(1 / len(logits))


def _module(spec: Spec, dtype: Dtype = "float32", dropout: float = 0.0) -> nn.Module:
    if isinstance(spec, Ensemble):
        return _Ensemble(spec, dtype, dropout)
    return _Network(spec, dtype, dropout)


def init(spec: Spec, key: Key) -> Params:
    """Fresh parameters, float32: layer `Dense_i` has a `kernel` `[in, out]` and a `bias` `[out]`.

    The kernel of a layer `Conv_i` is `[height, width, in, out]`. An ensemble has a dict for each member,
    `member_0` and so on.

    Raises:
        SpecError: the spec is none, or the key is not one typed key.
    """
    check_spec(spec)
    check_key(key)
    return cast(Params, _module(spec).init(key, jnp.zeros((1, *IMAGE_SHAPE), jnp.float32))["params"])


def ensemble_params(members: Sequence[Params]) -> Params:
    """The parameters of an `Ensemble`, of those of its members.

    Raises:
        SpecError: they are one network's.
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
    """The logits `[batch, 10]`, float32, for images `[batch, 28, 28]`, uint8 or float32 in 0..1.

    In `bfloat16` the layers compute with parameters and activations rounded to it, as training in mixed
    precision does (Kalamkar et al. 2019). With `dropout`, that share of each hidden layer's outputs is left
    out, by `key`, which it then needs. Forward-mode derivatives are for float32 alone.

    Raises:
        InputError: another shape or dtype. (The range of values can't be seen while tracing.)
        SpecError: the spec is none, the parameters are not its own, the dtype is another, the dropout is none
            below 1, or there is dropout without a key.
    """
    check_spec(spec)
    check_one_of("dtype", dtype, get_args(Dtype))
    check_params(spec, params)
    images = as_images(images)
    if check_real("dropout", dropout, 0, 1):
        check_key(key)
    keys = None if key is None else {"dropout": key}
    network = _module(spec, dtype, dropout)
    return cast(Logits, network.apply({"params": params}, scale(images), rngs=keys))


def activations(spec: Spec, params: Params, images: Images) -> tuple[jax.Array, ...]:
    """What each hidden layer gives, float32, from the first to the last.

    A dense layer gives `[batch, width]`; a convolution, after its pooling, `[batch, side, side, channels]`.
    An ensemble's are those of its members, one after the other.

    Raises:
        InputError, SpecError: as `apply`.
    """
    check_spec(spec)
    check_params(spec, params)
    images = as_images(images)
    collection, name = _HIDDEN
    _, sown = _module(spec).apply({"params": params}, scale(images), mutable=collection)
    found = sown.get(collection, {})
    members = [found.get(prefix.rstrip("/"), {}) if prefix else found for prefix in parts(spec)]
    return tuple(layer for member in members for layer in member.get(name, ()))


def check_key(key: Any) -> None:
    """Checks a source of randomness.

    Raises:
        SpecError: it is not one typed key.
    """
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed or key.shape:
        came = f"{key.dtype}{list(key.shape)}" if isinstance(key, jax.Array) else repr(key)
        raise SpecError(f"key must be one typed key, such as jax.random.key(0); got {came}")


def scale(
    images: UInt8[AnyArray, "*batch 28 28"] | Float32[AnyArray, "*batch 28 28"],
) -> Float32[Array, "*batch 28 28"]:
    """Images, or one, as float32 in 0..1."""
    # A product, not a quotient: it is what the ONNX file does, to the last bit.
    factor = jnp.float32(1 / 255)
    pixels = jnp.asarray(images)
    return pixels.astype(jnp.float32) * factor if pixels.dtype == jnp.uint8 else pixels


def probabilities(output: Output, logits: Logits) -> Logits:
    """Softmax, or ten sigmoids that need not add up to one."""
    return nn.softmax(logits) if output == "softmax" else nn.sigmoid(logits)


def predict(spec: Spec, params: Params, images: Images) -> Logits:
    """What the network answers, `[batch, 10]`: the class is its argmax.

    Raises:
        InputError: as `apply`; outside `jit`, where numbers can be seen: a float32 pixel is outside 0..1,
            which `apply` alone takes.
        SpecError: as `apply`.
    """
    images = as_images(images)
    check_pixels(images)
    return probabilities(spec.output, apply(spec, params, images))
