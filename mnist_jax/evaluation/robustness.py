"""Robustness of a network to rotation, translation, scaling, noise and stroke width."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mnist_jax.augmentation.deform import Image, Pixels, affine_grid, bilinear_sample
from mnist_jax.config.input_checks import as_images, as_labels
from mnist_jax.config.pixel_checks import check_pixels
from mnist_jax.errors import InputError
from mnist_jax.nn.keys import check_key
from mnist_jax.nn.model import to_unit_range
from mnist_jax.types import Key


class Corruption(NamedTuple):
    """A corruption of images with an adjustable amount.

    Attributes:
        name: name and unit.
        apply: function of a key, an image `[28, 28]` in 0..1 and an amount; returns the corrupted image.
        amounts: evenly spaced amounts to evaluate; one of them leaves the image unchanged.
    """

    name: str
    apply: Callable[[Key, Pixels, jax.Array], Pixels]
    amounts: tuple[float, ...]


class AccuracyCurve(NamedTuple):
    """Accuracy of a network by the amount of a corruption.

    Attributes:
        name: name and unit of the corruption.
        amounts: amounts of the corruption.
        accuracies: fraction of correct predictions for each amount.
        pictures: uint8 `[amounts, 28, 28]`, the first image under each amount.
    """

    name: str
    amounts: tuple[float, ...]
    accuracies: tuple[float, ...]
    pictures: np.ndarray


def _rotate(_: Key, image: Pixels, degrees: jax.Array) -> Pixels:
    return bilinear_sample(image, *affine_grid(angle=jnp.deg2rad(degrees)))


def _shift(_: Key, image: Pixels, pixels: jax.Array) -> Pixels:
    return bilinear_sample(image, *affine_grid(shift_x=-pixels))


def _resize(_: Key, image: Pixels, size: jax.Array) -> Pixels:
    return bilinear_sample(image, *affine_grid(scale_y=1 / size, scale_x=1 / size))


def _add_noise(key: Key, image: Pixels, deviation: jax.Array) -> Pixels:
    return jnp.clip(image + deviation * jax.random.normal(key, image.shape), 0, 1)


def _thicken(_: Key, image: Pixels, pixels: jax.Array) -> Pixels:
    """Widen strokes by up to one pixel on either side: interpolate between the image and its dilation.

    Negative values thin them by erosion.
    """
    window = functools.partial(
        lax.reduce_window, window_dimensions=(3, 3), window_strides=(1, 1), padding="SAME"
    )
    dilated, eroded = window(image, -jnp.inf, lax.max), window(image, jnp.inf, lax.min)
    return image + jnp.abs(pixels) * (jnp.where(pixels > 0, dilated, eroded) - image)


CORRUPTIONS = (
    Corruption("rotation, degrees", _rotate, (-30, -20, -10, 0, 10, 20, 30)),
    Corruption("shift, pixels", _shift, (-3, -2, -1, 0, 1, 2, 3)),
    Corruption("size", _resize, (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3)),
    Corruption("noise, standard deviation", _add_noise, (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    Corruption("stroke, pixels on either side", _thicken, (-0.9, -0.6, -0.3, 0, 0.3, 0.6, 0.9)),
)


def robustness(
    predict: Callable[[np.ndarray], np.ndarray], images: Image, labels: np.ndarray, key: Key
) -> list[AccuracyCurve]:
    """Evaluate a network under each of `CORRUPTIONS`.

    Args:
        predict: function from images, uint8 `[n, 28, 28]`, to scores `[n, 10]`, such as probabilities.
        images: `[n, 28, 28]`, uint8 0..255 or float32 0..1, at least one.
        labels: `[n]`.
        key: a single typed key, for the noise.

    Returns:
        A curve for each corruption.

    Raises:
        InputError: if images or labels are invalid or there are none.
        SpecError: if `key` is not a single typed key.

    Examples:
        >>> import jax, numpy as np
        >>> from mnist_jax import robustness
        >>> images, labels = np.zeros((2, 28, 28), np.uint8), np.array([0, 1])
        >>> always_zero = lambda images: np.eye(10)[[0] * len(images)]
        >>> curves = robustness.robustness(always_zero, images, labels, jax.random.key(0))
        >>> curves[0].name, curves[0].accuracies[:2]
        ('rotation, degrees', (0.5, 0.5))
    """
    images = as_images(images)
    check_pixels(images)
    labels = np.asarray(as_labels(labels, len(images)))
    check_key(key)
    if not len(images):
        raise InputError("robustness needs at least one image; got none")
    pictures = np.asarray(jax.jit(_corrupt)(jax.random.split(key, len(images)), images))
    return [
        AccuracyCurve(
            corruption.name,
            corruption.amounts,
            tuple(float((np.asarray(predict(batch)).argmax(axis=-1) == labels).mean()) for batch in batches),
            batches[:, 0],
        )
        for corruption, batches in zip(CORRUPTIONS, pictures, strict=True)
    ]


def _corrupt(keys: Key, images: Image) -> jax.Array:
    """The images under all corruptions, uint8 `[corruptions, amounts, n, 28, 28]`."""
    pixels = to_unit_range(images)

    def corrupt(corruption: Corruption) -> jax.Array:
        over_images = jax.vmap(corruption.apply, in_axes=(0, 0, None))
        amounts = jnp.asarray(corruption.amounts, jnp.float32)
        return jax.vmap(over_images, in_axes=(None, None, 0))(keys, pixels, amounts)

    return jnp.rint(255 * jnp.stack([corrupt(each) for each in CORRUPTIONS])).astype(jnp.uint8)
