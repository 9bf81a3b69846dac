"""Validation of pixel values: their range, and that images are white on black. Imports NumPy, not JAX."""

import sys
from typing import Any

import numpy as np

from mnist_jax.config.input_checks import extremes, is_jax_array, is_traced
from mnist_jax.errors import InputError

DARKEST_WHITE = 1.01 / 255  # the largest float32 pixel of images that were divided by 255 twice
BRIGHT_BORDER = 0.75  # of white: MNIST's mean is 0, noise has 0.5


def check_pixels(images: Any) -> None:
    """Check the pixel values of images from `as_images`; traced images pass.

    Raises:
        InputError: if a float32 pixel is NaN or outside 0..1, or the largest pixel shows that the images were
            scaled to another range.
    """
    low, high = extremes(images)
    if images.dtype == np.uint8:
        if high == 1:
            raise InputError("uint8 images must lie in 0..255; got 0..1; multiply binary images by 255")
        return
    if 0 < high <= DARKEST_WHITE:
        hint = "they were divided by 255 twice; divide once"
        raise InputError(f"float32 images must lie in 0..1; got at most {high:g}; {hint}")
    if low >= 0 and high <= 1:  # False for NaN
        return
    if low >= 0 and 128 <= high <= 255:
        hint = "divide by 255, or pass the uint8 pixels as they are"
    else:
        hint = "pass raw pixels, uint8 in 0..255 or float32 in 0..1, not standardized ones"
    raise InputError(f"float32 images must lie in 0..1; got {low:g}..{high:g}; {hint}")


def look_inverted(images: Any) -> bool:
    """Whether images from `as_images` look black on white: bright at their borders, where MNIST is black.

    Judged by the first 1,000; traced images do not.
    """
    if is_traced(images) or not images.shape[0]:
        return False
    some = images[:1000]
    if is_jax_array(some):
        some = sys.modules["jax"].device_get(some)
    white = 255 if some.dtype == np.uint8 else 1
    sides = some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1]
    border = np.concatenate([np.asarray(side, np.float64) for side in sides], axis=1)
    return float(border.mean()) > BRIGHT_BORDER * white
