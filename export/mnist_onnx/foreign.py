"""Somebody else's ONNX file: what pixels it takes can't be known from its graph, and must be said."""

import math
from typing import Any

import numpy as np

from mnist_jax.errors import InputError, ModelError
from mnist_onnx.sessions import probabilities, run

TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
SHAPES = ([1, 28, 28], [28, 28, 1], [28, 28], [784])


class Foreign:
    """A session on such a file: one input of 28x28 pixels in any usual layout, one output of ten numbers.

    Raises:
        InputError: the range is none.
        ModelError: the file takes or gives something else, or has a range already.
    """

    def __init__(self, session: Any, input_range: str, name: str) -> None:
        self.low, self.high = parse_range(input_range)
        facts: dict[str, str] = session.get_modelmeta().custom_metadata_map
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

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Ten probabilities for each image `[batch, 28, 28]`; what does not add up to one counts as logits.

        Raises:
            ModelError: the graph fails, or gives something else than ten numbers.
        """
        white = 255 if images.dtype == np.uint8 else 1
        pixels = self.low + (self.high - self.low) / white * images.astype(np.float64)
        pixels = (np.rint(pixels) if self.dtype == np.uint8 else pixels).astype(self.dtype)
        pixels = pixels.reshape(-1, *self.shape)
        size = self.batch_size or max(1, len(pixels))
        parts = [pixels[i : i + size] for i in range(0, len(pixels), size)]
        answers = [run(self.session, {self.input: part}, None, self.name)[0] for part in parts]
        answer = np.concatenate(answers) if answers else np.zeros((0, 10), np.float32)
        if (answer >= 0).all() and np.allclose(answer.sum(axis=-1), 1, atol=1e-3):
            return answer
        return probabilities(answer, "softmax")


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
    if not dots or not all(map(math.isfinite, numbers)) or numbers[0] == numbers[1]:
        raise InputError(f"an input range must be like 0..1, what black is and what white is; got {text!r}")
    return numbers
