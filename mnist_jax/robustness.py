"""How a network bears pictures that are turned, moved, larger, noisier or bolder than those it knows."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mnist_jax.augment import Image, Pixels, affine, sample
from mnist_jax.checks import as_images, as_labels, check_pixels
from mnist_jax.errors import InputError
from mnist_jax.models import check_key, scale
from mnist_jax.types import Key


class Change(NamedTuple):
    """One way in which a picture may differ.

    Attributes:
        name: what is changed, and in which unit.
        apply: the changed picture `[28, 28]`, of a key, a picture in 0..1 and an amount.
        amounts: to try, evenly spaced; the picture as it is among them.
    """

    name: str
    apply: Callable[[Key, Pixels, jax.Array], Pixels]
    amounts: tuple[float, ...]


class Curve(NamedTuple):
    """What became of a network's answers.

    Attributes:
        name: what was changed, and in which unit.
        amounts: by how much.
        accuracies: the share of right answers, for each.
        pictures: uint8 `[amounts, 28, 28]`, the first of the images, changed so.
    """

    name: str
    amounts: tuple[float, ...]
    accuracies: tuple[float, ...]
    pictures: np.ndarray


def _turn(_: Key, image: Pixels, degrees: jax.Array) -> Pixels:
    return sample(image, *affine(angle=jnp.deg2rad(degrees)))


def _move(_: Key, image: Pixels, pixels: jax.Array) -> Pixels:
    return sample(image, *affine(across=-pixels))


def _resize(_: Key, image: Pixels, size: jax.Array) -> Pixels:
    return sample(image, *affine(tall=1 / size, wide=1 / size))


def _add_noise(key: Key, image: Pixels, deviation: jax.Array) -> Pixels:
    return jnp.clip(image + deviation * jax.random.normal(key, image.shape), 0, 1)


def _thicken(_: Key, image: Pixels, pixels: jax.Array) -> Pixels:
    """Strokes so much wider on either side, up to one pixel: between the picture and its dilation."""
    window = functools.partial(
        lax.reduce_window, window_dimensions=(3, 3), window_strides=(1, 1), padding="SAME"
    )
    wider, thinner = window(image, -jnp.inf, lax.max), window(image, jnp.inf, lax.min)
    return image + jnp.abs(pixels) * (jnp.where(pixels > 0, wider, thinner) - image)


CHANGES = (
    Change("rotation, degrees", _turn, (-30, -20, -10, 0, 10, 20, 30)),
    Change("shift, pixels", _move, (-3, -2, -1, 0, 1, 2, 3)),
    Change("size", _resize, (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3)),
    Change("noise, standard deviation", _add_noise, (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    Change("stroke, pixels on either side", _thicken, (-0.9, -0.6, -0.3, 0, 0.3, 0.6, 0.9)),
)


def robustness(
    answer: Callable[[np.ndarray], np.ndarray], images: Image, labels: np.ndarray, key: Key
) -> list[Curve]:
    """A network's accuracy under each of `CHANGES`.

    Args:
        answer: from pictures, uint8 `[n, 28, 28]`, to ten numbers for each.
        images: `[n, 28, 28]`, uint8 or float32 in 0..1.
        labels: `[n]`.
        key: of the noise.

    Raises:
        InputError: images or labels are not what they must be, or there are none.
        SpecError: the key is not one typed key.
    """
    images = as_images(images)
    check_pixels(images)
    labels = np.asarray(as_labels(labels, len(images)))
    check_key(key)
    if not len(images):
        raise InputError("robustness needs at least one image; got none")
    pictures = np.asarray(jax.jit(_changed)(jax.random.split(key, len(images)), images))
    return [
        Curve(
            change.name,
            change.amounts,
            tuple(float((np.asarray(answer(batch)).argmax(axis=-1) == labels).mean()) for batch in changed),
            changed[:, 0],
        )
        for change, changed in zip(CHANGES, pictures, strict=True)
    ]


def _changed(keys: Key, images: Image) -> jax.Array:
    """All pictures, uint8 `[changes, amounts, n, 28, 28]`."""
    pixels = scale(images)

    def by(change: Change) -> jax.Array:
        over_images = jax.vmap(change.apply, in_axes=(0, 0, None))
        amounts = jnp.asarray(change.amounts, jnp.float32)
        return jax.vmap(over_images, in_axes=(None, None, 0))(keys, pixels, amounts)

    return jnp.rint(255 * jnp.stack([by(change) for change in CHANGES])).astype(jnp.uint8)
