"""Validation of the arguments of public functions: types, shapes, dtypes, ranges. Imports NumPy, not JAX."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_jax._utils.nested_dicts import flatten_dict
from mnist_jax.config.networks import (
    IMAGE_SHAPE,
    MAX_CLASSES,
    MAX_ONNX_PARAMS,
    PIXELS,
    FlaxModel,
    Spec,
    Trainable,
)
from mnist_jax.config.training import Config
from mnist_jax.errors import InputError, SpecError


def check_spec(spec: Any) -> None:
    """Check that `spec` is a network spec.

    Raises:
        SpecError: if it is not.
    """
    if not isinstance(spec, Spec):
        hint = "; take its model" if isinstance(spec, Config) else ""
        raise SpecError(
            f"spec must be an MLP, a CNN, an Ensemble or a FlaxModel; got {type(spec).__name__}{hint}"
        )


def check_config(config: Any) -> None:
    """Check that `config` is a `Config`.

    Raises:
        SpecError: if it is not.
    """
    if not isinstance(config, Config):
        hint = "; put it into one: Config(spec)" if isinstance(config, Trainable) else ""
        raise SpecError(f"config must be a Config; got {type(config).__name__}{hint}")


def check_params(spec: Spec, params: Any) -> None:
    """Check the names and shapes of parameters, which are known during tracing too.

    Raises:
        SpecError: if the parameters do not belong to the spec.
    """
    if not isinstance(params, Mapping):
        raise SpecError(f"params must be those of {spec}, a nested dict; got {type(params).__name__}")
    shapes = {path: tuple(getattr(leaf, "shape", ())) for path, leaf in flatten_dict(params).items()}
    for name in sorted({*spec.param_shapes, *shapes}):
        if shapes.get(name) != spec.param_shapes.get(name):
            expected = spec.param_shapes.get(name, "not there")
            raise SpecError(
                f"params must be those of {spec}, where {name} is {expected}; got {shapes.get(name, 'none')}"
            )


def check_exportable(spec: Spec) -> None:
    """Check that an ONNX file, which is one message of at most 2 GB, can hold a network.

    Raises:
        SpecError: if it has more than `MAX_ONNX_PARAMS` parameters.
    """
    if not isinstance(spec, FlaxModel) and spec.num_params > MAX_ONNX_PARAMS:
        raise SpecError(
            f"a network must have at most {MAX_ONNX_PARAMS:,} parameters to fit an ONNX file of 2 GB; "
            f"got {spec.num_params:,}; use smaller layers"
        )


def as_array(name: str, value: Any, expected: str = "an array") -> Any:
    """Return `value` as an array.

    Args:
        name: name of the argument in error messages.
        value: a NumPy or JAX array, or anything else with `__array__`.
        expected: description of a valid value in error messages.

    Returns:
        A JAX array unchanged, traced or not; everything else as a NumPy array in native byte order.

    Raises:
        InputError: if it is no array, is masked or holds objects.
    """
    if is_jax_array(value):
        return value
    message = f"{name} must be {expected}; got {type(value).__name__}"
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{message}; fill it first: {name}.filled(0)")
    if isinstance(value, list | tuple):
        raise InputError(f"{message}; convert it first: np.asarray({name})")
    if isinstance(value, type) or not hasattr(value, "__array__"):
        raise InputError(f"{message}{f'; take its {name}' if hasattr(value, name) else ''}")
    try:
        array: np.ndarray = np.asarray(value)
    except Exception as error:  # third-party types raise anything, for instance for data on a GPU
        raise InputError(f"{message}, which NumPy cannot read: {' '.join(str(error).split())}") from None
    if array.dtype.hasobject:
        raise InputError(f"{name} must be {expected}, of numbers; got dtype object; np.stack may help")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_real(name: str, value: Any) -> np.ndarray:
    """Return an array of real numbers, or nested lists of them, as a NumPy array.

    Raises:
        InputError: if it is anything else.
    """
    if isinstance(value, list | tuple):
        try:
            value = np.asarray(value)
        except ValueError:
            raise InputError(f"{name} must be one array; got lists of different lengths") from None
    array = as_array(name, value)
    if getattr(array.dtype, "kind", "") not in tuple("biuf"):
        raise InputError(f"{name} must be real numbers; got {array.dtype}")
    return np.asarray(array)


def as_images(images: Any) -> Any:
    """Return images as an array (see `as_array`) of the right shape and dtype; values are not checked.

    Raises:
        InputError: if it is no array, its shape is not `[batch, 28, 28]`, or its dtype is neither uint8 nor
            float32.
    """
    expected = "an array of shape [batch, 28, 28]"
    images = as_array("images", images, expected)
    if len(images.shape) != 3 or images.shape[1:] != IMAGE_SHAPE:
        raise InputError(f"images must be {expected}; got shape {images.shape}{_shape_hint(images.shape)}")
    _check_pixel_dtype("images", images)
    return images


def as_image(image: Any) -> Any:
    """Return one image as an array, like `as_images`.

    Raises:
        InputError: as `as_images`, for the shape `[28, 28]`.
    """
    expected = "an array of shape [28, 28]"
    image = as_array("image", image, expected)
    if image.shape != IMAGE_SHAPE:
        hint = "; map over several: jax.vmap" if image.shape[1:] == IMAGE_SHAPE else ""
        raise InputError(f"image must be {expected}; got shape {image.shape}{hint}")
    _check_pixel_dtype("image", image)
    return image


def _check_pixel_dtype(name: str, pixels: Any) -> None:
    dtype = pixels.dtype
    if dtype in (np.uint8, np.float32):
        return
    kind, hint = (dtype.kind if isinstance(dtype, np.dtype) else ""), ""
    if kind in ("f", "b") or str(dtype) == "bfloat16":
        hint = f"; convert what lies in 0..1: {name}.astype(np.float32)"
    elif kind in ("i", "u"):
        low, high = extremes(pixels)
        hint = f" in {low}..{high}; scale them to 0..1, as float32"
        if low >= 0 and high <= 255:  # other values would wrap around
            hint = f"; convert what lies in 0..255: {name}.astype(np.uint8)"
    raise InputError(f"{name} must be uint8 (0 to 255) or float32 (0 to 1); got {dtype}{hint}")


def check_range(name: str, numbers: Any) -> None:
    """Check that all numbers are in 0..1, up to rounding; traced arrays pass.

    Raises:
        InputError: if one is not.
    """
    low, high = extremes(numbers)
    if not (low >= 0 and high <= 1 + 1e-5):
        raise InputError(f"{name} must lie in 0..1; got {low:g}..{high:g}")


def as_labels(
    labels: Any, count: int | None = None, name: str = "labels", *, num_classes: int = MAX_CLASSES
) -> Any:
    """Return labels as an array (see `as_array`) of class indices; traced labels may have any value.

    Args:
        labels: any array.
        count: expected number of labels, or None for any.
        name: name of the argument in error messages.
        num_classes: number of classes; labels are 0 to `num_classes - 1`.

    Returns:
        The labels, `[count]`, of any integer dtype.

    Raises:
        InputError: if it is no array, its shape or dtype is wrong, or a label is out of range.
    """
    each = "image" if count is None else f"of {count:,} images"
    expected = f"an array with one entry for each {each}"
    labels = as_array(name, labels, expected)
    if len(labels.shape) != 1 or count not in (None, labels.shape[0]):
        hint = _label_shape_hint(labels.shape, name)
        raise InputError(f"{name} must be {expected}; got shape {labels.shape}{hint}")
    if not isinstance(labels.dtype, np.dtype) or not np.issubdtype(labels.dtype, np.integer):
        real = isinstance(labels.dtype, np.dtype) and labels.dtype.kind in "fb"
        hint = f"; if they are whole numbers, pass {name}.astype(np.int32)" if real else ""
        raise InputError(f"{name} must be integers from 0 to {num_classes - 1}; got {labels.dtype}{hint}")
    low, high = extremes(labels)
    if not (low >= 0 and high < num_classes):
        hint = f"; for more classes: num_classes={int(high) + 1}" if 0 <= low < high < MAX_CLASSES else ""
        raise InputError(f"{name} must lie in 0..{num_classes - 1}; got {int(low)}..{int(high)}{hint}")
    return labels


def as_examples(examples: Any, *, num_classes: int = MAX_CLASSES) -> tuple[Any, Any]:
    """Return the `images` and `labels` of an object, checked by `as_images` and `as_labels`.

    Raises:
        InputError: if one is missing or invalid, or there is no image.
    """
    if not hasattr(examples, "images") or not hasattr(examples, "labels"):
        hint = "; take its train or test" if hasattr(examples, "train") else ""
        if isinstance(examples, tuple | list) and len(examples) == 2:
            hint = "; make it one: Examples(*pair)"
        raise InputError(
            f"examples must have images and labels, as Examples has; got {type(examples).__name__}{hint}"
        )
    images = as_images(examples.images)
    labels = as_labels(examples.labels, images.shape[0], num_classes=num_classes)
    if not images.shape[0]:
        raise InputError("examples must hold at least one image; got none")
    return images, labels


def is_traced(array: Any) -> bool:
    """Whether `array` is a JAX tracer, whose values are not known yet."""
    return is_jax_array(array) and isinstance(array, sys.modules["jax"].core.Tracer)


def is_jax_array(value: Any) -> bool:
    """Whether `value` is a JAX array, without importing JAX: nothing is before JAX is imported."""
    return "jax" in sys.modules and isinstance(value, sys.modules["jax"].Array)


def extremes(array: Any) -> tuple[float, float]:
    """Minimum and maximum of an array; `(0, 0)`, which passes all checks, if it is empty or traced."""
    if is_traced(array) or not array.size:
        return 0, 0
    if not is_jax_array(array):
        return array.min(), array.max()
    with sys.modules["jax"].ensure_compile_time_eval():  # for a constant inside a traced function
        return array.min().item(), array.max().item()


def _shape_hint(shape: tuple[int, ...]) -> str:
    if shape == IMAGE_SHAPE:
        return "; add the batch axis: images[None]"
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        return "; drop the channel axis"
    if len(shape) == 2 and shape[1] == PIXELS:
        return "; reshape to (-1, 28, 28)"
    return ""


def _label_shape_hint(shape: tuple[int, ...], name: str) -> str:
    if len(shape) == 2 and shape[1] > 1:
        return f"; if they are one-hot, pass {name}.argmax(axis=1)"
    return f"; pass {name}[:, 0]" if len(shape) == 2 and shape[1] == 1 else ""
