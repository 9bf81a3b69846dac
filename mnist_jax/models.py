"""A spec becomes two pure functions: `init(spec, key) -> params` and `apply(spec, params, images) -> logits`.

The only file that imports Flax.
"""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float32

from mnist_jax.checks import check_image_type, check_params, check_spec
from mnist_jax.errors import SpecError
from mnist_jax.specs import CLASSES, MLP, PIXELS, Activation, Initializer, Output
from mnist_jax.types import Array, Images, Key, Logits, Params

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


class _Network(nn.Module):
    """`[batch, 784]` pixels in 0..1 to `[batch, 10]` logits."""

    spec: MLP

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        initializer = _INITIALIZERS[self.spec.initializer]
        hidden = pixels
        for width, activation in zip(self.spec.hidden, self.spec.activations, strict=True):
            hidden = _ACTIVATIONS[activation](nn.Dense(width, kernel_init=initializer)(hidden))
        return nn.Dense(CLASSES, kernel_init=initializer)(hidden)


def init(spec: MLP, key: Key) -> Params:
    """Fresh parameters: layer `Dense_i` has a `kernel` `[in, out]` and a `bias` `[out]`, float32.

    Raises:
        SpecError: the spec is none, or the key is not one typed key.
    """
    check_spec(spec)
    check_key(key)
    return cast(Params, _Network(spec).init(key, jnp.zeros((1, PIXELS), jnp.float32))["params"])


def apply(spec: MLP, params: Params, images: Images) -> Logits:
    """The logits `[batch, 10]`, float32, for images `[batch, 28, 28]`, uint8 or float32 in 0..1.

    Raises:
        InputError: another shape or dtype. (The range of values can't be seen while tracing.)
        SpecError: the spec is none, or the parameters are not its own.
    """
    check_spec(spec)
    check_params(spec, params)
    check_image_type(images)
    return cast(Logits, _Network(spec).apply({"params": params}, scale(images).reshape(-1, PIXELS)))


def check_key(key: Any) -> None:
    """Checks a source of randomness.

    Raises:
        SpecError: it is not one typed key.
    """
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed or key.shape:
        came = f"{key.dtype}{list(key.shape)}" if isinstance(key, jax.Array) else repr(key)
        raise SpecError(f"key must be one typed key, such as jax.random.key(0); got {came}")


def scale(images: Images) -> Float32[Array, "batch 28 28"]:
    """Images as float32 in 0..1."""
    # A product, not a quotient: it is what the ONNX file does, to the last bit.
    factor = jnp.float32(1 / 255)
    pixels = jnp.asarray(images)
    return pixels.astype(jnp.float32) * factor if pixels.dtype == jnp.uint8 else pixels


def probabilities(output: Output, logits: Logits) -> Logits:
    """Softmax, or ten sigmoids that need not add up to one."""
    return nn.softmax(logits) if output == "softmax" else nn.sigmoid(logits)


def predict(spec: MLP, params: Params, images: Images) -> Logits:
    """What the network answers, `[batch, 10]`: the class is its argmax."""
    return probabilities(spec.output, apply(spec, params, images))
