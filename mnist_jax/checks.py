"""What public functions take, checked at the edge: kinds, shapes, dtypes, ranges. NumPy alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnist_jax.arrays import SEPARATOR
from mnist_jax.errors import InputError, SpecError
from mnist_jax.networks import CLASSES, IMAGE_SHAPE, Network, Spec
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


def check_image_type(images: Any) -> None:
    """Checks what is known of an array without reading it, so that it also works while tracing.

    Raises:
        InputError: the shape is not `[batch, 28, 28]`, or the dtype neither uint8 nor float32.
    """
    shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    if shape is None or len(shape) != 3 or tuple(shape[1:]) != IMAGE_SHAPE:
        came = f"shape {tuple(shape)}" if shape is not None else type(images).__name__
        raise InputError(f"images must be an array of shape [batch, 28, 28]; got {came}{_hint(shape)}")
    if dtype not in (np.uint8, np.float32):
        raise InputError(
            f"images must be uint8 (0 to 255) or float32 (0 to 1); got {dtype}; convert them first"
        )


def check_images(images: Any) -> None:
    """Checks shape, dtype and range.

    Raises:
        InputError: as `check_image_type`, or a float32 pixel is outside 0..1 or not a number.
    """
    check_image_type(images)
    if images.dtype == np.float32 and images.size:
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):  # written so that NaN fails it
            raise InputError(
                f"float32 images must lie in 0..1; got {low:g}..{high:g}; "
                "divide by 255, or pass the uint8 pixels as they are"
            )


def check_label_type(labels: Any, count: int) -> None:
    """Checks shape and dtype, as `check_image_type` does: one integer for each of `count` images.

    Raises:
        InputError: the shape or dtype is another.
    """
    shape, dtype = getattr(labels, "shape", None), getattr(labels, "dtype", None)
    if shape != (count,):
        came = f"shape {tuple(shape)}" if shape is not None else type(labels).__name__
        raise InputError(f"labels must be an array with one entry for each of {count:,} images; got {came}")
    if not isinstance(dtype, np.dtype) or not np.issubdtype(dtype, np.integer):
        raise InputError(f"labels must be integers from 0 to {CLASSES - 1}; got {dtype}")


def check_labels(labels: Any, count: int) -> None:
    """Checks shape, dtype and range.

    Raises:
        InputError: as `check_label_type`, or a label is not one of the ten classes.
    """
    check_label_type(labels, count)
    if count and not (int(labels.min()) >= 0 and int(labels.max()) < CLASSES):
        raise InputError(f"labels must lie in 0..{CLASSES - 1}; got {int(labels.min())}..{int(labels.max())}")


def check_example_types(examples: Any) -> None:
    """Checks shapes and dtypes of labelled images, of which there must be some.

    Raises:
        InputError: as `check_image_type` and `check_label_type`; or there is no image to be found.
    """
    images, labels = getattr(examples, "images", None), getattr(examples, "labels", None)
    if images is None or labels is None:
        raise InputError(
            f"examples must have images and labels, as Examples has; got {type(examples).__name__}"
            f"{'; take its train or test' if hasattr(examples, 'train') else ''}"
        )
    check_image_type(images)
    check_label_type(labels, images.shape[0])
    if not images.shape[0]:
        raise InputError("examples must hold at least one image; got none")


def _hint(shape: Any) -> str:
    if shape == IMAGE_SHAPE:
        return "; add the batch axis: images[None]"
    if shape is not None and len(shape) == 4 and 1 in (shape[1], shape[3]):
        return "; drop the channel axis"
    if shape is not None and len(shape) == 2 and shape[1] == 784:
        return "; reshape to (-1, 28, 28)"
    return ""
