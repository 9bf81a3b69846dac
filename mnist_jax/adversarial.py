"""Harder images for a network, made from those that it learns from."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float32

from mnist_jax.types import Array, Scalar

Pixels = Float32[Array, "batch 28 28"]


def adversarial(loss: Callable[[Pixels], Scalar], distance: float, pixels: Pixels) -> Pixels:
    """The images with each pixel moved by `distance`, in the direction in which the loss grows.

    The fast gradient sign method (Goodfellow et al. 2015). Pixels may leave 0..1, as in most of what is black
    or white one direction leads there: a network that trains on what is clipped learns less.

    Args:
        loss: the mean over the batch, of its pixels.
        distance: how far, where black is 0 and white is 1.
        pixels: float32 `[batch, 28, 28]`.
    """
    return pixels + distance * jnp.sign(jax.grad(loss)(pixels))
