"""What the parts of a network can be, by name; and the shapes of its input and output."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from mnist_jax.config.validation import INT32_MAX, MAX_LABEL_LENGTH, check_positive_int, is_label
from mnist_jax.errors import SpecError

IMAGE_SHAPE = (28, 28)
PIXELS = 28 * 28
# Factor from uint8 to 0..1, in float32. A product, as in the ONNX file: a quotient differs in the last bit.
PIXEL_SCALE = 1 / 255
DEFAULT_CLASSES, MAX_CLASSES = 10, 1000
# float32 in 2**31 - 1 bytes, of which 27 million are left for the graph and the metadata.
MAX_ONNX_PARAMS = 530_000_000
LABELS = f"names, all different, printable, of at most {MAX_LABEL_LENGTH} characters"

Activation = Literal[
    "relu",
    "sigmoid",
    "tanh",
    "gelu",
    "gelu_exact",
    "elu",
    "selu",
    "silu",
    "swish",
    "leaky_relu",
    "softplus",
    "hard_sigmoid",
    "hard_swish",
    "mish",
]
Output = Literal["softmax", "sigmoid"]
KernelInit = Literal["glorot_uniform", "he_normal"]
Pool = Literal["average", "max"]
Padding = Literal["same", "valid"]
Dtype = Literal["float32", "bfloat16"]


def check_num_classes(value: object) -> int:
    """Check a number of classes.

    Raises:
        SpecError: if it is not a whole number from 2 to 1,000.
    """
    count = check_positive_int("num_classes", value)
    if not 2 <= count <= MAX_CLASSES:
        raise SpecError(f"num_classes must be from 2 to {MAX_CLASSES:,}; got {count:,}")
    return count


def are_labels(value: Any) -> bool:
    """Whether `value` is a list or tuple of 2 to 1,000 different class names, each a printable string."""
    named = isinstance(value, list | tuple) and 2 <= len(value) <= MAX_CLASSES and all(map(is_label, value))
    return named and len(set(value)) == len(value)


def dense_shapes(layer_sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of dense layers' parameters by path, from the sizes of their inputs and outputs."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (fan_in, fan_out) in enumerate(pairwise(layer_sizes)):
        shapes |= {f"Dense_{index}/bias": (fan_out,), f"Dense_{index}/kernel": (fan_in, fan_out)}
    return shapes


def count_params(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of elements of all parameters.

    Raises:
        SpecError: if there are more than 2**31 - 1.
    """
    count = sum(math.prod(shape) for shape in shapes.values())
    if count > INT32_MAX:
        raise SpecError(f"a network must have at most {INT32_MAX:,} parameters; got {count:,}")
    return count
