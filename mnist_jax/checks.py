"""What public functions take, checked at the edge: kinds, shapes, dtypes, ranges. NumPy alone."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnist_jax.arrays import SEPARATOR
from mnist_jax.errors import InputError, SpecError
from mnist_jax.networks import CLASSES, IMAGE_SHAPE, PIXELS, Network, Spec
from mnist_jax.settings import LONGEST_LABEL, is_label
from mnist_jax.specs import Config

LABELS = f"{CLASSES} names, all different, printable, of at most {LONGEST_LABEL} characters"


def check_spec(spec: Any) -> None:
    """Checks that it is one.

    Raises:
        SpecError: it is not.
    """
    if not isinstance(spec, Spec):
        hint = "; take its model" if isinstance(spec, Config) else ""
        raise SpecError(f"spec must be an MLP, a CNN or an Ensemble; got {type(spec).__name__}{hint}")


def check_config(config: Any) -> None:
    """Checks that it is one.

    Raises:
        SpecError: it is not.
    """
    if not isinstance(config, Config):
        hint = "; put it into one: Config(spec)" if isinstance(config, Network) else ""
        raise SpecError(f"config must be a Config; got {type(config).__name__}{hint}")


def check_params(spec: Spec, params: Any) -> None:
    """Checks names and shapes, which are known while tracing too.

    Raises:
        SpecError: the parameters are not the spec's.
    """
    if not isinstance(params, Mapping):
        raise SpecError(f"params must be those of {spec}, a nested dict; got {type(params).__name__}")
    found = _shapes(params)
    for name in sorted({*spec.shapes, *found}):
        if found.get(name) != spec.shapes.get(name):
            raise SpecError(
                f"params must be those of {spec}, where {name} is {spec.shapes.get(name, 'not there')}; "
                f"got {found.get(name, 'none')}"
            )


def _shapes(tree: Any, prefix: str = "") -> dict[str, tuple[int, ...]]:
    if not isinstance(tree, Mapping):
        return {prefix.rstrip(SEPARATOR): tuple(getattr(tree, "shape", ()))}
    return {
        path: shape
        for name, value in tree.items()
        for path, shape in _shapes(value, f"{prefix}{name}{SEPARATOR}").items()
    }


def are_labels(value: Any) -> bool:
    """Whether it is a sequence of the classes' names, as a file can hold and a terminal can show them."""
    named = isinstance(value, Sequence) and len(value) == CLASSES and all(map(is_label, value))
    return named and len(set(value)) == CLASSES


def as_array(name: str, value: Any, wanted: str = "an array") -> Any:
    """An array of NumPy in this machine's byte order, or of JAX as it is, traced or not.

    Raises:
        InputError: it is masked, holds objects, or is no array.
    """
    if _of_jax(value):
        return value
    came = f"{name} must be {wanted}; got {type(value).__name__}"
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{came}; fill it first: {name}.filled(0)")
    if isinstance(value, list | tuple):
        raise InputError(f"{came}; convert it first: np.asarray({name})")
    if isinstance(value, type) or not hasattr(value, "__array__"):
        raise InputError(f"{came}{f'; take its {name}' if hasattr(value, name) else ''}")
    try:
        array: np.ndarray = np.asarray(value)
    except Exception as error:  # of somebody else's type, such as one whose numbers are on a GPU
        raise InputError(f"{came}, which NumPy cannot read: {' '.join(str(error).split())}") from None
    if array.dtype.hasobject:
        raise InputError(f"{name} must be {wanted}, of numbers; got one of objects; np.stack may join them")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def real_numbers(name: str, value: Any) -> np.ndarray:
    """What is to be drawn: an array of real numbers, or lists that are one.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, list | tuple):
        try:
            value = np.asarray(value)
        except ValueError:
            raise InputError(f"{name} must be one array; got lists of several lengths") from None
    array = as_array(name, value)
    if getattr(array.dtype, "kind", "") not in tuple("biuf"):
        raise InputError(f"{name} must be real numbers; got {array.dtype}")
    return np.asarray(array)


def as_images(images: Any) -> Any:
    """Images as `as_array` gives them, of the right shape and dtype; pixels are not looked at.

    Raises:
        InputError: as `as_array`; or the shape is not `[batch, 28, 28]`, or the dtype neither uint8 nor
            float32.
    """
    wanted = "an array of shape [batch, 28, 28]"
    images = as_array("images", images, wanted)
    if len(images.shape) != 3 or images.shape[1:] != IMAGE_SHAPE:
        raise InputError(f"images must be {wanted}; got shape {images.shape}{_reshaping(images.shape)}")
    _check_pixel_type("images", images)
    return images


def as_image(image: Any) -> Any:
    """One image, likewise.

    Raises:
        InputError: as `as_images`, where the shape is `[28, 28]`.
    """
    wanted = "an array of shape [28, 28]"
    image = as_array("image", image, wanted)
    if image.shape != IMAGE_SHAPE:
        several = "; map over several: jax.vmap" if image.shape[1:] == IMAGE_SHAPE else ""
        raise InputError(f"image must be {wanted}; got shape {image.shape}{several}")
    _check_pixel_type("image", image)
    return image


def _check_pixel_type(name: str, pixels: Any) -> None:
    dtype = pixels.dtype
    if dtype in (np.uint8, np.float32):
        return
    kind, hint = (dtype.kind if isinstance(dtype, np.dtype) else ""), ""
    if kind in ("f", "b") or str(dtype) == "bfloat16":
        hint = f"; convert what lies in 0..1: {name}.astype(np.float32)"
    elif kind in ("i", "u"):
        low, high = extremes(pixels)
        hint = f" in {low}..{high}; scale them to 0..1, as float32"
        if low >= 0 and high <= 255:  # others would wrap around
            hint = f"; convert what lies in 0..255: {name}.astype(np.uint8)"
    raise InputError(f"{name} must be uint8 (0 to 255) or float32 (0 to 1); got {dtype}{hint}")


def check_pixels(images: Any) -> None:
    """Checks the range of what `as_images` gives; while tracing there is none to be seen.

    Raises:
        InputError: a float32 pixel is outside 0..1 or not a number.
    """
    low, high = extremes(images) if images.dtype == np.float32 else (0, 1)
    if low >= 0 and high <= 1:  # written so that NaN fails it
        return
    if low >= 0 and 128 <= high <= 255:
        hint = "divide by 255, or pass the uint8 pixels as they are"
    else:
        hint = "pass raw pixels, uint8 in 0..255 or float32 in 0..1, not standardized ones"
    raise InputError(f"float32 images must lie in 0..1; got {low:g}..{high:g}; {hint}")


def check_range(name: str, numbers: Any) -> None:
    """Checks that all are in 0..1, up to rounding, where they can be seen.

    Raises:
        InputError: one is not.
    """
    low, high = extremes(numbers)
    if not (low >= 0 and high <= 1 + 1e-5):
        raise InputError(f"{name} must lie in 0..1; got {low:g}..{high:g}")


def as_labels(labels: Any, count: int | None = None, name: str = "labels") -> Any:
    """Labels as `as_array` gives them: one of the ten classes for each of `count` images, where given.

    Their range is checked, too, but not while tracing, where there is none to be seen.

    Raises:
        InputError: as `as_array`; or the shape or dtype is another, or a label is not one of the classes.
    """
    each = "image" if count is None else f"of {count:,} images"
    wanted = f"an array with one entry for each {each}"
    labels = as_array(name, labels, wanted)
    if len(labels.shape) != 1 or count not in (None, labels.shape[0]):
        raise InputError(
            f"{name} must be {wanted}; got shape {labels.shape}{_flattening(labels.shape, name)}"
        )
    if not isinstance(labels.dtype, np.dtype) or not np.issubdtype(labels.dtype, np.integer):
        real = isinstance(labels.dtype, np.dtype) and labels.dtype.kind in "fb"
        hint = f"; if they are whole numbers, pass {name}.astype(np.int32)" if real else ""
        raise InputError(f"{name} must be integers from 0 to {CLASSES - 1}; got {labels.dtype}{hint}")
    low, high = extremes(labels)
    if not (low >= 0 and high < CLASSES):
        raise InputError(f"{name} must lie in 0..{CLASSES - 1}; got {int(low)}..{int(high)}")
    return labels


def as_examples(examples: Any) -> tuple[Any, Any]:
    """The images and labels of what has both, of which there must be some, as `as_images` and `as_labels`.

    Raises:
        InputError: as these; or there is no image to be found.
    """
    if not hasattr(examples, "images") or not hasattr(examples, "labels"):
        hint = "; take its train or test" if hasattr(examples, "train") else ""
        if isinstance(examples, tuple | list) and len(examples) == 2:
            hint = "; make it one: Examples(*pair)"
        raise InputError(
            f"examples must have images and labels, as Examples has; got {type(examples).__name__}{hint}"
        )
    images = as_images(examples.images)
    labels = as_labels(examples.labels, images.shape[0])
    if not images.shape[0]:
        raise InputError("examples must hold at least one image; got none")
    return images, labels


def is_traced(array: Any) -> bool:
    """Whether it has no numbers yet, inside `jax.jit` and the like."""
    return _of_jax(array) and isinstance(array, sys.modules["jax"].core.Tracer)


def _of_jax(value: Any) -> bool:
    """Without importing JAX: where it has not been imported, nothing is of it."""
    return "jax" in sys.modules and isinstance(value, sys.modules["jax"].Array)


def extremes(array: Any) -> tuple[float, float]:
    """The least and the largest number; of none, and while tracing, two that pass."""
    if is_traced(array) or not array.size:
        return 0, 0
    if not _of_jax(array):
        return array.min(), array.max()
    with sys.modules["jax"].ensure_compile_time_eval():  # a constant inside a function that is traced
        return array.min().item(), array.max().item()


def _reshaping(shape: tuple[int, ...]) -> str:
    if shape == IMAGE_SHAPE:
        return "; add the batch axis: images[None]"
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        return "; drop the channel axis"
    if len(shape) == 2 and shape[1] == PIXELS:
        return "; reshape to (-1, 28, 28)"
    return ""


def _flattening(shape: tuple[int, ...], name: str) -> str:
    if len(shape) == 2 and shape[1] == CLASSES:
        return f"; if they are one-hot, pass {name}.argmax(axis=1)"
    return f"; pass {name}[:, 0]" if len(shape) == 2 and shape[1] == 1 else ""
