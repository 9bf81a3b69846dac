"""The networks as Flax modules. This is the only module that imports Flax."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnist_jax.config.networks import CNN, Dtype, Ensemble, KernelInit, Network, Padding, members_by_prefix
from mnist_jax.nn.convolution import convolve, pool
from mnist_jax.nn.matmul import dot_general

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
HIDDEN = "hidden", "layers"  # Flax collection and name of the sown outputs of hidden layers


class Conv(nn.Module):
    """A convolution and its bias, named and initialized as `flax.linen.Conv`, by `convolve`."""

    channels: int
    kernel_size: int
    padding: Padding
    kernel_init: nn.initializers.Initializer
    dtype: Dtype

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """`[batch, side, side, channels in]` to `[batch, newside, newside, channels]`."""
        shape = (self.kernel_size, self.kernel_size, images.shape[-1], self.channels)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.channels,))
        images, kernel, bias = (array.astype(self.dtype) for array in (images, kernel, bias))
        return convolve(images, kernel, bias, self.padding)


class _Network(nn.Module):
    """An MLP or a CNN: pixels `[batch, 28, 28]` in 0..1 to logits `[batch, classes]`."""

    spec: Network
    dtype: Dtype = "float32"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        spec, init_fn = self.spec, _INITIALIZERS[self.spec.kernel_init]
        dense = functools.partial(nn.Dense, kernel_init=init_fn, dtype=self.dtype, dot_general=dot_general)
        drop = nn.Dropout(self.dropout, deterministic=not self.dropout)
        hidden = pixels
        if isinstance(spec, CNN):
            hidden = hidden[..., None]
            for channels, padding in zip(spec.channels, spec.padding, strict=True):
                hidden = Conv(channels, spec.kernel_size, padding, init_fn, self.dtype)(hidden)
                hidden = pool(spec.pool, _ACTIVATIONS[spec.activation](hidden))
                self.sow(*HIDDEN, hidden)
                hidden = drop(hidden)
        hidden = hidden.reshape(len(hidden), math.prod(hidden.shape[1:]))  # -1 fails for an empty batch
        for width, activation in zip(spec.layer_sizes[1:-1], spec.activations, strict=True):
            hidden = _ACTIVATIONS[activation](dense(width)(hidden))
            self.sow(*HIDDEN, hidden)
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


def module_of(spec: Network | Ensemble, dtype: Dtype = "float32", dropout: float = 0.0) -> nn.Module:
    """The Flax module of a network or an ensemble."""
    if isinstance(spec, Ensemble):
        return _Ensemble(spec, dtype, dropout)
    return _Network(spec, dtype, dropout)
