"""Images of any usual shape and dtype as uint8 `[n, 28, 28]`, white on black."""

import math
from typing import Any

import numpy as np
from PIL import Image

from mnist_jax.config.input_checks import as_array
from mnist_jax.config.networks import IMAGE_SHAPE, PIXELS
from mnist_jax.config.pixel_checks import look_inverted
from mnist_jax.data.preprocess import resize as resample
from mnist_jax.errors import DatasetError, ImageError, InputError

SIDE = IMAGE_SHAPE[0]
MAX_SIDE = 1024  # pixels; more are photographs, which a folder of pictures takes
DIMMEST_WHITE = 64  # of 255: where nothing is brighter, the values have another range
CHUNK = 10_000  # images converted at once


def as_pixels(images: Any, what: str = "images", *, invert: bool = False, resize: bool = False) -> np.ndarray:
    """Convert images to uint8 `[n, 28, 28]`.

    Args:
        images: `[n, h, w]`, `[n, h, w, 1]`, `[n, 1, h, w]` or `[n, h * w]` for square ones: integers or
            floats in 0..255, floats in 0..1, or booleans. Anything with `__array__` or `__dlpack__`.
        what: name of the images in error messages.
        invert: whether the images are black on white.
        resize: whether to scale images of other sizes to 28x28.

    Returns:
        The images; unchanged, and perhaps a memory map, where they have this form already. Floats in 0..1
        are rounded to 255 steps.

    Raises:
        InputError: if they are anything else; says what would convert them.
    """
    array = as_numpy(what, images)
    if array.dtype.kind not in "buif":
        raise InputError(f"{what} must be numbers; got {array.dtype}")
    array = _without_channel(array, what)
    if not len(array):
        raise InputError(f"{what} must hold at least one image; got none")
    scale = _scale(array, what)
    if array.dtype != np.uint8 or scale != 1:
        array = _in_chunks(array, lambda part: np.rint(part.astype(np.float64) * scale).astype(np.uint8))
    if array.shape[1:] != IMAGE_SHAPE:
        array = fitted(array, what) if resize else _refuse_size(array, what)
    if not array.any():
        raise InputError(f"{what} must show something; all of them are black")
    inverted = look_inverted(array)
    if inverted and not invert:
        raise InputError(
            f"{what} must be white on black, as MNIST is; these have bright borders; invert them: "
            "invert=True, or --invert"
        )
    if invert and not inverted and look_inverted(255 - array[:1000]):
        raise InputError(f"{what} must be black on white to be inverted; these have dark borders already")
    return 255 - array if invert else array


def as_numpy(name: str, value: Any) -> np.ndarray:
    """Return an array, tensor or nested list as a NumPy array.

    Raises:
        InputError: if it is none, or on a device that NumPy cannot read.
    """
    if isinstance(value, list | tuple):
        try:
            value = np.asarray(value)
        except ValueError:
            raise InputError(f"{name} must be one array; got lists of different lengths") from None
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        try:
            value = np.from_dlpack(value)
        except Exception as error:  # third-party types raise anything
            raise InputError(f"{name} must be on the CPU; NumPy cannot read it: {error}") from None
    if getattr(getattr(value, "dtype", None), "kind", "") == "O":  # strings in a list or a pandas column
        value = np.asarray([*value])
    return np.asarray(as_array(name, value))


def _without_channel(array: np.ndarray, what: str) -> np.ndarray:
    """Drops a channel axis of length 1, or makes squares of rows of pixels; the result is `[n, h, w]`."""
    shape = array.shape
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        return array[:, 0] if shape[1] == 1 and shape[3] != 1 else array[..., 0]
    if len(shape) == 4 and shape[3] in (3, 4):
        raise InputError(f"{what} must be gray; got {shape[3]} channels; average them: .mean(axis=-1)")
    if len(shape) == 2 and (side := math.isqrt(shape[1])) ** 2 == shape[1] and side > 1:
        return array.reshape(len(array), side, side)
    if len(shape) != 3:
        raise InputError(f"{what} must be [n, 28, 28] or [n, {PIXELS}]; got {list(shape)}")
    return array


def _scale(array: np.ndarray, what: str) -> float:
    """The factor to 0..255."""
    low, high = array.min(), array.max()
    if array.dtype.kind == "b" or (high == 1 and low >= 0):
        return 255.0
    floats = array.dtype.kind == "f"
    if not (low >= 0 and high <= 255):  # False for NaN
        hint = "; divide them by 257" if array.dtype == np.uint16 else ""
        raise InputError(f"{what} must lie in 0..255 or, as floats, in 0..1; got {low:g}..{high:g}{hint}")
    if floats and 0 < high <= 1:
        return 255.0
    if 0 < high < DIMMEST_WHITE:
        raise InputError(
            f"{what} must use the range 0..255 or, as floats, 0..1; got {low:g}..{high:g}; "
            f"multiply them by 255 / {high:g}"
        )
    return 1.0


def _refuse_size(array: np.ndarray, what: str) -> np.ndarray:
    height, width = array.shape[1:]
    raise InputError(
        f"{what} must be 28x28; got {height}x{width}; scale them to fit: resize=True, or --resize"
    )


def fitted(array: np.ndarray, what: str = "images") -> np.ndarray:
    """Scale uint8 images `[n, h, w]` to 28 pixels on the longer side, and center them on their background.

    Raises:
        InputError: if they are too small or too large.
    """
    if not 2 <= min(array.shape[1:]) <= max(array.shape[1:]) <= MAX_SIDE:
        raise InputError(f"{what} must be 2x2 to {MAX_SIDE}x{MAX_SIDE} pixels; got {array.shape[1:]}")
    scale = SIDE / max(array.shape[1:])
    height, width = (max(1, round(scale * length)) for length in array.shape[1:])
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    margins = (0, 0), (top, SIDE - height - top), (left, SIDE - width - left)
    paper = 255 if look_inverted(array) else 0
    return _in_chunks(
        array,
        lambda part: np.pad(
            np.rint(resample(part.astype(np.float32), height, width)).astype(np.uint8),
            margins,
            constant_values=paper,
        ),
    )


def _in_chunks(array: np.ndarray, convert: Any) -> np.ndarray:
    """Converts images part by part, so that no wide copy of all is held."""
    return np.concatenate([convert(array[i : i + CHUNK]) for i in range(0, len(array), CHUNK)])


def check_same_length(images: np.ndarray, labels: np.ndarray, what: str) -> None:
    """Check that there is a label for each image.

    Raises:
        DatasetError: if there is not.
    """
    if len(images) != len(labels):
        raise DatasetError(
            f"{what} must have a label for each image; got {len(images):,} images and {len(labels):,} labels"
        )


def gray(picture: Image.Image) -> np.ndarray:
    """A picture as it is, uint8 `[h, w]`."""
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    values = np.asarray(picture.convert("LA"), np.float64)
    tones, alpha = values[..., 0], values[..., 1] / 255
    paper = 0.0 if (tones * alpha).sum() > 127 * alpha.sum() else 255.0  # the opposite of what is drawn
    return np.asarray(np.rint(tones * alpha + paper * (1 - alpha)), np.uint8)


def scaled(picture: Image.Image) -> np.ndarray:
    """A whole picture scaled to uint8 `[28, 28]`.

    Raises:
        ImageError: if it has a side of one pixel.
    """
    picture.thumbnail((512, 512))
    try:
        image: np.ndarray = fitted(gray(picture)[None], "a picture")[0]
    except InputError as error:
        raise ImageError(str(error)) from None
    return image
