"""What a trained network does: which pixels move its answer, which of its units never do anything."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32

from mnist_jax.checks import as_images
from mnist_jax.errors import InputError, SpecError
from mnist_jax.models import activations, apply, scale
from mnist_jax.networks import Spec
from mnist_jax.types import Array, Images, Params


def saliency(spec: Spec, params: Params, images: Images) -> Float32[Array, "batch 28 28"]:
    """How strongly each pixel moves the winning logit: its gradient's size (Simonyan et al. 2014).

    Raises:
        InputError, SpecError: as `apply`.
    """

    def winning(pixels: jax.Array) -> jax.Array:
        return apply(spec, params, pixels).max(axis=-1).sum()

    return jnp.abs(jax.grad(winning)(scale(as_images(images))))


def silent_units(spec: Spec, params: Params, images: Images) -> Bool[Array, "units"]:
    """The units (of a convolution: the channels) of the first layer that say the same of every image.

    Raises:
        InputError: as `apply`, or there is no image.
        SpecError: as `apply`, or the network has no hidden layer.
    """
    hidden = activations(spec, params, images)
    if not hidden:
        raise SpecError(f"silent_units needs a network with a hidden layer; got {spec}")
    if not len(hidden[0]):
        raise InputError("silent_units needs at least one image; got none")
    over = tuple(range(hidden[0].ndim - 1))
    return hidden[0].max(over) == hidden[0].min(over)
