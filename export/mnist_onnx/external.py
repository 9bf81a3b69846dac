"""Inference from ONNX files of other exporters, whose graphs do not say which pixel range they expect."""

import math
from typing import Any

import numpy as np

from mnist_jax.config.networks import DEFAULT_CLASSES, MAX_CLASSES
from mnist_jax.errors import InputError, ModelError, NotInstalledError
from mnist_onnx.graph_limits import check_graph
from mnist_onnx.session import check_probabilities, metadata_of, probabilities, run

TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
PROBABILITIES = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
UNCHANGED = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
LARGEST_ARRAY = 2**27  # elements for one image, 512 MB as float32
LARGEST = 1e6  # the largest magnitude of an input value
SHAPES = ([1, 28, 28], [28, 28, 1], [28, 28], [784])


class Foreign:
    """An external file in ONNX Runtime: one input of 28x28 pixels in any usual layout, one output.

    Args:
        session: an ONNX Runtime session on the file.
        data: the bytes of the file.
        input_range: the input values of a black and of a white pixel, such as `0..1`.
        name: what to call the file in an error message.

    Raises:
        InputError: `input_range` is not two numbers such as `0..1`.
        ModelError: the file has other inputs or outputs, or its metadata has an input range already.
        NotInstalledError: the package onnx is not installed.
    """

    def __init__(self, session: Any, data: bytes, input_range: str, name: str) -> None:
        self.low, self.high = parse_range(input_range)
        metadata = metadata_of(session, name)
        if "input_range" in metadata and "parameters_sha256" in metadata:
            raise ModelError(
                f"{name} must not be given an input range, since it has one, {metadata['input_range']}; "
                f"got {input_range}; leave it out"
            )
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in TYPES:
            values = [(value.name, value.type) for value in (*inputs, *outputs)]
            raise ModelError(
                f"{name} must take one array of float or uint8 pixels and output one; got {values}"
            )
        batch, *shape = inputs[0].shape or [0]
        if shape not in SHAPES or not (batch == 1 or not isinstance(batch, int)):
            raise ModelError(
                f"{name} must take [batch, 1, 28, 28], [batch, 28, 28, 1], [batch, 28, 28] or [batch, 784]; "
                f"got {inputs[0].shape}"
            )
        if inputs[0].type == "tensor(uint8)" and {self.low, self.high} != {0, 255}:
            raise ModelError(f"{name} takes uint8, whose range must be 0..255 or 255..0; got {input_range}")
        self.session, self.name = session, name
        self.input, self.dtype, self.shape = inputs[0].name, TYPES[inputs[0].type], shape
        self.batch_size = 1 if batch == 1 else 0  # some files take one image at a time
        self.last = _last_operation(data, outputs[0].name)
        self.num_classes = _num_classes(outputs[0].shape, name)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Predicts class probabilities.

        The output of a final softmax or sigmoid is returned as it is, that of a log-softmax is exponentiated,
        and anything else counts as logits of a softmax.

        Args:
            images: `[batch, 28, 28]`, white on black, uint8 0..255 or float32 0..1.

        Returns:
            float32 `[batch, classes]`.

        Raises:
            ModelError: the graph fails, or its output is not finite values for all classes that fit its last
                operation.
        """
        white = 255 if images.dtype == np.uint8 else 1
        pixels = self.low + (self.high - self.low) / white * images.astype(np.float64)
        pixels = (np.rint(pixels) if self.dtype == np.uint8 else pixels).astype(self.dtype)
        pixels = pixels.reshape(-1, *self.shape)
        size = self.batch_size or max(1, len(pixels))
        parts = [pixels[i : i + size] for i in range(0, len(pixels), size)]
        batches = [self._run(part) for part in parts]
        outputs = np.concatenate(batches) if batches else np.zeros((0, self.num_classes), np.float32)
        if not np.isfinite(outputs).all():
            raise ModelError(
                f"{self.name} must output finite numbers; got NaN or infinite; "
                f"is its range {self.low:g}..{self.high:g}?"
            )
        if self.last not in PROBABILITIES:
            return probabilities(outputs, "softmax")
        if self.last == "LogSoftmax":
            outputs = np.exp(np.minimum(outputs, 1))  # values above 0 fail the check below
        check_probabilities(outputs, PROBABILITIES[self.last], self.name)
        return outputs

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        return run(self.session, {self.input: pixels}, None, self.name, num_classes=self.num_classes)[0]


def _num_classes(shape: Any, name: str) -> int:
    """The number of classes by the shape of a graph's output; ten where the graph leaves it open."""
    count = shape[1] if shape and len(shape) == 2 else None
    if not isinstance(count, int):
        return DEFAULT_CLASSES
    if not 2 <= count <= MAX_CLASSES:
        raise ModelError(f"{name} must output 2 to {MAX_CLASSES:,} classes; got {count:,}")
    return count


def check_sizes(data: bytes, name: str = "the model") -> None:
    """Checks that no array in a graph is larger than a digit classifier needs, by onnx's shape inference.

    Arrays whose shapes the graph computes cannot be checked. An unknown axis, such as the batch, counts as 1.

    Args:
        data: the bytes of the file.
        name: what to call the file in an error message.

    Raises:
        ModelError: an array is too large, or the file is damaged; or as for `check_graph`.
        NotInstalledError: the package onnx is not installed.
    """
    check_graph(data, name)
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise NotInstalledError("an input range, for a file from elsewhere,", error) from None
    try:
        # Without `data_prop`, which would compute the values of small arrays, and of arrays that grow.
        graph = onnx.shape_inference.infer_shapes(data).graph
    except Exception as error:  # onnx's own errors and protobuf's have no common base
        reason = " ".join(str(error).split())
        raise ModelError(f"{name} must be an ONNX file; its shapes cannot be inferred: {reason}") from None
    for value in (*graph.value_info, *graph.output):
        axes = [axis.dim_value for axis in value.type.tensor_type.shape.dim if axis.dim_value]
        if any(axis < 0 for axis in axes) or math.prod(axes) > LARGEST_ARRAY:
            raise ModelError(
                f"{name} must have no arrays of more than {LARGEST_ARRAY:,} elements; "
                f"got {value.name[:40]!a} with {axes}"
            )


def _last_operation(data: bytes, output: str) -> str:
    """The operation that computes the output, ignoring those that leave its values unchanged."""
    import onnx

    producers = {name: node for node in onnx.load_from_string(data).graph.node for name in node.output}
    for _ in producers:
        if output not in producers or producers[output].op_type not in UNCHANGED:
            break
        output = producers[output].input[0]
    return str(producers[output].op_type) if output in producers else ""


def parse_range(text: str) -> tuple[float, float]:
    """Parses an input range such as `0..1`.

    Returns:
        The input values of a black and of a white pixel.

    Raises:
        InputError: `text` is not two different numbers, separated by two dots.
    """
    low, dots, high = str(text).partition("..")
    try:
        numbers = float(low), float(high)
    except ValueError:
        numbers = math.nan, math.nan
    if not dots or not all(abs(number) <= LARGEST for number in numbers) or numbers[0] == numbers[1]:
        raise InputError(f"an input range must be like 0..1, the values of black and of white; got {text!r}")
    return numbers
