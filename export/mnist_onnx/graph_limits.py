"""Limits on the graph of a file, checked on its bytes before ONNX Runtime opens it.

ONNX Runtime executes whatever a file contains: it inlines functions, folds constants of any size while it
loads, and runs loops of any length. No digit classifier needs loops, branches or functions of its own, so
files with these are rejected. The check parses only the protobuf fields that matter, because importing `onnx`
would take longer than a prediction.

Not limited are the run time of ordinary operations, sizes that the graph computes, and products of its
weights. Run a file that you do not trust in a process with limits of its own.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from mnist_jax.config.networks import MAX_KERNEL_SIZE
from mnist_jax.errors import ModelError

LARGEST_GRAPH = 1_000_000  # protobuf fields; parsing as many takes a second
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
# All operations that `to_onnx` and `quantize` write. For none does the output's size depend on values.
OURS = {
    *("Add", "AveragePool", "Cast", "Conv", "DequantizeLinear", "Elu", "Erf", "Flatten", "Gemm"),
    *("HardSigmoid", "LeakyRelu", "MaxPool", "Mul", "QuantizeLinear", "Relu", "Selu", "Sigmoid", "Softmax"),
    *("Softplus", "Sum", "Tanh"),
}
# Field numbers in onnx.proto, which never change.
GRAPH, FUNCTION = 7, 25  # of a model
NODE, WEIGHTS, SPARSE = 1, 5, 15  # of a graph
OPERATION, ATTRIBUTE, DOMAIN = 4, 5, 7  # of a node
TENSOR, INTS, TENSORS = 5, 8, 10  # of an attribute
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of an array
REFUSED = {6: "control flow", 11: "control flow", 22: "sparse arrays", 23: "sparse arrays"}  # of an attribute


class _Node(NamedTuple):
    operation: str
    domain: str
    refused: str  # the kind of attribute that no digit classifier needs; empty if there is none
    largest: float  # the largest integer in its attributes' lists
    external: bool  # whether an array in its attributes is stored in another file


def check_graph(data: bytes, name: str = "the model") -> None:
    """Checks that a graph has standard ONNX operations only, all its weights, and no control flow.

    Args:
        data: the bytes of the file.
        name: what to call the file in an error message.

    Raises:
        ModelError: the graph violates this, it has too many fields, or the file is damaged.
    """
    _nodes(data, name)


def check_ours(data: bytes, name: str = "the model") -> None:
    """Checks that a graph has only operations that this package writes.

    Args:
        data: the bytes of the file.
        name: what to call the file in an error message.

    Raises:
        ModelError: the graph has another operation; or as for `check_graph`.
    """
    for node in _nodes(data, name):
        if node.operation not in OURS or node.domain or node.largest > MAX_KERNEL_SIZE:
            raise ModelError(
                f"{name} must be a file written by mnist-jax; no such file has this "
                f"{_quoted(node.operation)}; for a file from elsewhere, give its input range"
            )


def _nodes(data: bytes, name: str) -> list[_Node]:
    parser = _Parser()
    try:
        model = [field for field in parser.fields(data) if field[0] in (GRAPH, FUNCTION)]
        graphs = [value for number, value in model if number == GRAPH]
        kinds = NODE, WEIGHTS, SPARSE
        parts = [part for graph in graphs for part in parser.fields(graph) if part[0] in kinds]
        nodes = [parser.node(value) for number, value in parts if number == NODE]
        external = any(parser.external(value) for number, value in parts if number == WEIGHTS)
    except ValueError as error:
        raise ModelError(f"{name} must be an ONNX file; {error}") from None
    if len(graphs) < len(model):
        raise ModelError(f"{name} must have no functions of its own, which no digit classifier needs")
    if any(number == SPARSE for number, _ in parts):
        raise ModelError(f"{name} must have no sparse arrays, which no digit classifier needs")
    if external or any(node.external for node in nodes):  # ONNX Runtime would read any file with that name
        raise ModelError(f"{name} must hold its own weights; got some that are in another file")
    for node in nodes:
        if node.refused:
            raise ModelError(
                f"{name} must have no {node.refused}, which no digit classifier needs; "
                f"got {_quoted(node.operation)}"
            )
        if node.domain not in DOMAINS:
            raise ModelError(
                f"{name} must have ONNX's own operations alone; "
                f"got {_quoted(node.operation)} of {_quoted(node.domain)}"
            )
    return nodes


class _Parser:
    """A parser of protobuf's wire format that stops after `LARGEST_GRAPH` fields."""

    def __init__(self) -> None:
        self.left = LARGEST_GRAPH

    def fields(self, message: int | bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Yields each field's number and value: an integer, or the bytes of a message, a string or an array.

        A field starts with an integer that encodes 8 * number + wire type. Wire type 0 is an integer, 1 is
        eight bytes, 2 is a length followed by as many bytes, 5 is four bytes.

        Raises:
            ValueError: the message is truncated or not protobuf, or there are too many fields.
        """
        message, at = memoryview(b"" if isinstance(message, int) else message), 0
        while at < len(message):
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"it has more than {LARGEST_GRAPH:,} fields")
            key, at = _integer(message, at)
            number, kind = divmod(key, 8)
            if kind in (0, 2):
                size, at = _integer(message, at)
            else:
                size = {1: 8, 5: 4}.get(kind, len(message))
            if kind == 0:
                yield number, size
                continue
            if size > len(message) - at:
                raise ValueError("it is damaged, or not ONNX")
            yield number, message[at : at + size]
            at += size

    def node(self, message: int | memoryview) -> _Node:
        operation, domain, refused, largest, external = "", "", "", 0.0, False
        for number, value in self.fields(message):
            if number == OPERATION and isinstance(value, memoryview):
                operation = bytes(value).decode()
            elif number == DOMAIN and isinstance(value, memoryview):
                domain = bytes(value).decode()
            elif number == ATTRIBUTE:
                for inner, part in self.fields(value):
                    refused = REFUSED.get(inner, refused)
                    external |= inner in (TENSOR, TENSORS) and self.external(part)
                    if inner == INTS:  # `to_onnx` never packs several into one field
                        largest = max(largest, part if isinstance(part, int) else math.inf)
        return _Node(operation, domain, refused, largest, external)

    def external(self, message: int | memoryview) -> bool:
        """Whether the values of an array are stored in another file."""
        return any(
            number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)
            for number, value in self.fields(message)
        )


def _integer(message: memoryview, at: int) -> tuple[int, int]:
    """Reads a varint, seven bits per byte from the lowest; returns its value and where it ends."""
    value = 0
    for index, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise ValueError("it is damaged, or not ONNX")


def _quoted(text: str) -> str:
    return ascii(text[:40])
