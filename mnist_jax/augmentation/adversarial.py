"""Adversarial examples made from training images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mnist_jax.config.input_checks import as_images
from mnist_jax.config.validation import check_float
from mnist_jax.nn.model import to_unit_range
from mnist_jax.types import Array, Images, Scalar


def fgsm(loss_fn: Callable[[Array], Scalar], epsilon: float, images: Images) -> Array:
    """Adversarial examples by the fast gradient sign method (Goodfellow et al. 2015).

    Each pixel moves by `epsilon` in the direction that increases the loss; pixels without influence on the
    loss stay. The result is not clipped to 0..1: most pixels are black or white, and training on clipped
    images is less effective (docs/project/experiments.md). `apply` and `train_step` accept such images.

    Args:
        loss_fn: mean or total loss of float32 images `[batch, 28, 28]`.
        epsilon: step size, in pixel values of 0..1.
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1.

    Returns:
        The adversarial examples, float32 `[batch, 28, 28]`, in -epsilon..1 + epsilon.

    Raises:
        InputError: if the shape or dtype of the images is wrong.
        SpecError: if `epsilon` is not a number in [0, 1).

    Examples:
        >>> import jax.numpy as jnp
        >>> from mnist_jax import fgsm
        >>> images = jnp.full((1, 28, 28), 0.5)
        >>> fgsm(lambda images: (images**2).sum(), 0.25, images)[0, 0, :2]
        Array([0.75, 0.75], dtype=float32)
    """
    epsilon = check_float("epsilon", epsilon, 0, 1)
    pixels = to_unit_range(as_images(images))
    return pixels + epsilon * jnp.sign(jax.grad(loss_fn)(pixels))
