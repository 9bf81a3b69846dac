"""Inspection of a trained network: saliency of pixels, and dead units."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32

from mnist_jax.config.input_checks import as_images
from mnist_jax.config.networks import Spec
from mnist_jax.errors import InputError, SpecError
from mnist_jax.nn.model import apply, intermediates, to_unit_range
from mnist_jax.types import Array, Images, Params


def saliency(spec: Spec, params: Params, images: Images) -> Float32[Array, "batch 28 28"]:
    """Saliency maps: the absolute gradient of the largest logit by each pixel (Simonyan et al. 2014).

    Args:
        spec: network spec.
        params: its parameters.
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1.

    Returns:
        The maps, float32 `[batch, 28, 28]`, of at least 0.

    Raises:
        InputError: as `apply`.
        SpecError: as `apply`.

    Examples:
        >>> import jax, numpy as np
        >>> from mnist_jax import MLP, init, inspection
        >>> spec = MLP((20,), ("relu",))
        >>> params = init(spec, jax.random.key(0))
        >>> inspection.saliency(spec, params, np.zeros((2, 28, 28), np.uint8)).shape
        (2, 28, 28)
    """

    def largest_logits(pixels: jax.Array) -> jax.Array:
        return apply(spec, params, pixels).max(axis=-1).sum()

    return jnp.abs(jax.grad(largest_logits)(to_unit_range(as_images(images))))


def dead_units(spec: Spec, params: Params, images: Images) -> Bool[Array, "units"]:
    """Find units of the first hidden layer whose output is the same for all images.

    Args:
        spec: network spec.
        params: its parameters.
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1, at least one.

    Returns:
        A mask, bool `[units]`; of a convolution, its channels.

    Raises:
        InputError: as `apply`, or if there is no image.
        SpecError: as `apply`, or if the network has no hidden layer.

    Examples:
        >>> import jax, numpy as np
        >>> from mnist_jax import MLP, init, inspection
        >>> spec = MLP((3,), ("relu",))
        >>> params = init(spec, jax.random.key(0))
        >>> params["Dense_0"]["bias"] = np.array([0, -1e6, 0], np.float32)
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 28, 28), np.uint8)
        >>> bool(inspection.dead_units(spec, params, images)[1])
        True
    """
    hidden = intermediates(spec, params, images)
    if not hidden:
        raise SpecError(f"dead_units needs a network with a hidden layer; got {spec}")
    if not len(hidden[0]):
        raise InputError("dead_units needs at least one image; got none")
    axes = tuple(range(hidden[0].ndim - 1))
    return hidden[0].max(axes) == hidden[0].min(axes)
