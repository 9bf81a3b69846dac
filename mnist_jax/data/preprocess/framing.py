"""MNIST's own framing: 20 pixels on the longer side, anti-aliased, the center of mass in the middle of 28x28.

LeCun, Cortes, Burges: The MNIST database of handwritten digits.
"""

import numpy as np

from mnist_jax.errors import ImageError


def frame(ink: np.ndarray) -> np.ndarray:
    """Scale ink, float `[h, w]`, to 20 pixels on the longer side and center its mass in uint8 `[28, 28]`.

    The brightest pixel becomes 255, as in MNIST, because thin strokes fade when they are scaled down.

    Raises:
        ImageError: if there is no ink.
    """
    if not (ink > 0).any():
        raise ImageError("the picture must show a digit; got no ink")
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(digit.shape)
    height, width = (max(1, round(length * scale)) for length in digit.shape)
    digit = resize(digit, height, width)
    digit = np.rint(255 / digit.max() * digit).astype(np.uint8)
    top, left = (_offset(digit.sum(axis=1 - axis), digit.shape[axis]) for axis in (0, 1))
    framed = np.zeros((28, 28), np.uint8)
    framed[top : top + height, left : left + width] = digit
    return framed


def _offset(mass: np.ndarray, length: int) -> int:
    """The offset along an axis that moves the center of mass to 13.5..14.5, where it is in all of MNIST."""
    center = float(mass @ np.arange(length)) / float(mass.sum())
    return int(np.clip(np.floor(14.5 - center), 0, 28 - length))


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize images `[..., h, w]`: by area averages to shrink, bilinearly to enlarge."""
    return np.asarray(_weights(images.shape[-2], height) @ images @ _weights(images.shape[-1], width).T)


def _weights(old: int, new: int) -> np.ndarray:
    """The resampling matrix `[new, old]`: how much each old pixel contributes to each new one."""
    scale = old / new
    if scale <= 1:
        centers = ((np.arange(new) + 0.5) * scale - 0.5).clip(0, old - 1)
        return np.asarray(np.maximum(0, 1 - np.abs(centers[:, None] - np.arange(old))))
    starts, pixels = np.arange(new)[:, None] * scale, np.arange(old)
    overlap = np.minimum(starts + scale, pixels + 1) - np.maximum(starts, pixels)
    return np.asarray(overlap.clip(0) / scale)
