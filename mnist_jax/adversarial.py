"""Harder images for a network, made from those that it learns from."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mnist_jax.checks import as_images
from mnist_jax.models import scale
from mnist_jax.settings import check_real
from mnist_jax.types import Array, Images, Scalar


def fast_gradient_sign(loss: Callable[[Array], Scalar], distance: float, images: Images) -> Array:
    """The images with each pixel moved by `distance`, in the direction in which the loss grows.

    Goodfellow et al. 2015. Most pixels are black or white, so that one of the two directions leads out of
    0..1: they may go there, since a network learns less from what is clipped (see bench/NOTES.md). `apply`
    and training's steps take such images; a pixel by which the loss does not change stays.

    Args:
        loss: of float32 images `[batch, 28, 28]`: their mean or their sum.
        distance: how far, where black is 0 and white is 1.
        images: `[batch, 28, 28]`, uint8 or float32 in 0..1.

    Raises:
        InputError: the images have another shape or dtype.
        SpecError: the distance is no number of 0..1.
    """
    distance = check_real("distance", distance, 0, 1)
    pixels = scale(as_images(images))
    return pixels + distance * jnp.sign(jax.grad(loss)(pixels))
