"""Somebody else's ONNX file: what pixels it takes can't be known from its graph, and must be said."""

import math
from typing import Any

import numpy as np

from mnist_jax.errors import InputError, ModelError, NotInstalledError
from mnist_onnx.limits import check_graph
from mnist_onnx.sessions import check_probabilities, metadata_of, probabilities, run

TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
PROBABILITIES = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
UNCHANGED = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
LARGEST_ARRAY = 2**27  # numbers for one picture, 512 MB as float32
LARGEST = 1e6  # of what a network may take for black or white
SHAPES = ([1, 28, 28], [28, 28, 1], [28, 28], [784])


class Foreign:
    """A session on such a file: one input of 28x28 pixels in any usual layout, one output of ten numbers.

    Raises:
        InputError: the range is none.
        ModelError: the file takes or gives something else, or has a range already.
        NotInstalledError: there is no onnx.
    """

    def __init__(self, session: Any, data: bytes, input_range: str, name: str) -> None:
        self.low, self.high = parse_range(input_range)
        facts = metadata_of(session, name)
        if "input_range" in facts and "parameters_sha256" in facts:
            raise ModelError(
                f"{name} must not be given an input range, since it has one, {facts['input_range']}; "
                f"got {input_range}; leave it out"
            )
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in TYPES:
            found = [(value.name, value.type) for value in (*inputs, *outputs)]
            raise ModelError(
                f"{name} must take one array of float or uint8 pixels and put out one; got {found}"
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
        self.batch_size = 1 if batch == 1 else 0  # some files take one picture at a time
        self.last = _last_operation(data, outputs[0].name)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Ten probabilities for each image `[batch, 28, 28]`.

        What comes out of a softmax or a sigmoid is taken as it is; of a log-softmax, its power; all else is
        taken for logits, of which the softmax is given.

        Raises:
            ModelError: the graph fails, or gives something else than ten numbers, or than its last operation.
        """
        white = 255 if images.dtype == np.uint8 else 1
        pixels = self.low + (self.high - self.low) / white * images.astype(np.float64)
        pixels = (np.rint(pixels) if self.dtype == np.uint8 else pixels).astype(self.dtype)
        pixels = pixels.reshape(-1, *self.shape)
        size = self.batch_size or max(1, len(pixels))
        parts = [pixels[i : i + size] for i in range(0, len(pixels), size)]
        answers = [run(self.session, {self.input: part}, None, self.name)[0] for part in parts]
        answer = np.concatenate(answers) if answers else np.zeros((0, 10), np.float32)
        if not np.isfinite(answer).all():
            told = f"{self.low:g}..{self.high:g}"
            raise ModelError(f"{self.name} must put out finite numbers; got others; is its range {told}?")
        if self.last not in PROBABILITIES:
            return probabilities(answer, "softmax")
        if self.last == "LogSoftmax":
            answer = np.exp(np.minimum(answer, 1))  # what is above 0 is refused below
        check_probabilities(answer, PROBABILITIES[self.last], self.name)
        return answer


def check_sizes(data: bytes, name: str = "the model") -> None:
    """Checks that no array of a graph is larger than a digit classifier needs, as far as shapes can be told.

    They can't where a file computes them; for each axis that is not known, such as the batch, 1 is counted.

    Raises:
        ModelError: one is, or the file is damaged; or as `check_graph`.
        NotInstalledError: there is no onnx.
    """
    check_graph(data, name)
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise NotInstalledError("an input range, for somebody else's file,", error) from None
    try:
        # Without `data_prop`, which would compute the numbers of small arrays, and of those that grow.
        graph = onnx.shape_inference.infer_shapes(data).graph
    except Exception as error:  # onnx's own errors and protobuf's have no common base
        reason = " ".join(str(error).split())
        raise ModelError(f"{name} must be an ONNX file; its shapes can't be told: {reason}") from None
    for value in (*graph.value_info, *graph.output):
        axes = [axis.dim_value for axis in value.type.tensor_type.shape.dim if axis.dim_value]
        if any(axis < 0 for axis in axes) or math.prod(axes) > LARGEST_ARRAY:
            raise ModelError(
                f"{name} must have no arrays of more than {LARGEST_ARRAY:,} numbers; "
                f"got {value.name[:40]!a} with {axes}"
            )


def _last_operation(data: bytes, output: str) -> str:
    """The operation that the output comes from, but for those that leave its numbers as they are."""
    import onnx

    made = {name: node for node in onnx.load_from_string(data).graph.node for name in node.output}
    for _ in made:
        if output not in made or made[output].op_type not in UNCHANGED:
            break
        output = made[output].input[0]
    return str(made[output].op_type) if output in made else ""


def parse_range(text: str) -> tuple[float, float]:
    """`0..1` as the numbers for black and for white.

    Raises:
        InputError: it is not two numbers, one after the other.
    """
    low, dots, high = str(text).partition("..")
    try:
        numbers = float(low), float(high)
    except ValueError:
        numbers = math.nan, math.nan
    if not dots or not all(abs(number) <= LARGEST for number in numbers) or numbers[0] == numbers[1]:
        raise InputError(f"an input range must be like 0..1, what black is and what white is; got {text!r}")
    return numbers
