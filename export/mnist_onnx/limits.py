"""What a file's graph may hold, looked up in its bytes before ONNX Runtime opens it.

ONNX Runtime does what a file says: it copies functions into each other, computes constants of any size while
it loads, and runs loops of any length. No digit classifier needs loops, branches or functions of its own, so
files with these are refused, after a walk over the few fields that tell: importing `onnx` would cost
prediction more than the answer.

Not bounded: how long a graph of ordinary operations runs, and what sizes that the graph computes itself or
products of its weights take. A file that you don't trust belongs into a process with limits of its own.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from mnist_jax.errors import ModelError
from mnist_jax.networks import LARGEST_KERNEL

LARGEST_GRAPH = 1_000_000  # fields that are looked at, which takes a second
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
# All that `to_onnx` and `quantize` write. None of them takes the size of its result from numbers.
OURS = {
    *("Add", "AveragePool", "Cast", "Conv", "DequantizeLinear", "Flatten", "Gemm", "MaxPool", "Mul"),
    *("QuantizeLinear", "Relu", "Sigmoid", "Softmax", "Sum", "Tanh"),
}
# Numbers of fields in onnx.proto, which never change.
GRAPH, FUNCTION = 7, 25  # of a model
NODE, WEIGHTS, SPARSE = 1, 5, 15  # of a graph
OPERATION, ATTRIBUTE, DOMAIN = 4, 5, 7  # of a node
TENSOR, INTS, TENSORS = 5, 8, 10  # of an attribute
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of an array
REFUSED = {6: "control flow", 11: "control flow", 22: "sparse arrays", 23: "sparse arrays"}  # of an attribute


class _Node(NamedTuple):
    operation: str
    domain: str
    refused: str  # what no digit classifier needs; empty if it has none of it
    largest: float  # whole number in its attributes' lists
    external: bool  # whether an array in its attributes is in another file


def check_graph(data: bytes, name: str = "the model") -> None:
    """Checks that a graph is one of ONNX's own operations, with its weights, and no control flow.

    Raises:
        ModelError: it is not; it has too many fields to be looked at; or the file is damaged.
    """
    _nodes(data, name)


def check_ours(data: bytes, name: str = "the model") -> None:
    """Checks that a graph has no other operations than this package writes.

    Raises:
        ModelError: it has; or as `check_graph`.
    """
    for node in _nodes(data, name):
        if node.operation not in OURS or node.domain or node.largest > LARGEST_KERNEL:
            raise ModelError(
                f"{name} must be a file written by mnist-jax, which says what pixels it takes; "
                f"no such file has this {_quoted(node.operation)}; "
                "if you know the file, say so by an input range"
            )


def _nodes(data: bytes, name: str) -> list[_Node]:
    walk = _Walk()
    try:
        model = [field for field in walk.fields(data) if field[0] in (GRAPH, FUNCTION)]
        graphs = [value for number, value in model if number == GRAPH]
        kinds = NODE, WEIGHTS, SPARSE
        parts = [part for graph in graphs for part in walk.fields(graph) if part[0] in kinds]
        found = [walk.node(value) for number, value in parts if number == NODE]
        external = any(walk.external(value) for number, value in parts if number == WEIGHTS)
    except ValueError as error:
        raise ModelError(f"{name} must be an ONNX file; {error}") from None
    if len(graphs) < len(model):
        raise ModelError(f"{name} must have no functions of its own, which no digit classifier needs")
    if any(number == SPARSE for number, _ in parts):
        raise ModelError(f"{name} must have no sparse arrays, which no digit classifier needs")
    if external or any(node.external for node in found):  # ONNX Runtime would read any file that is named
        raise ModelError(f"{name} must hold its own weights; got some that are in another file")
    for node in found:
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
    return found


class _Walk:
    """Reads protobuf's wire format, so many fields and no more."""

    def __init__(self) -> None:
        self.left = LARGEST_GRAPH

    def fields(self, message: int | bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Each field's number and value: a whole number, or the bytes of a message, a text or an array.

        A field begins with a whole number: eight times the field's own, and a kind. 0 is for a whole number,
        1 for eight bytes, 2 for a length and as many bytes, 5 for four bytes.

        Raises:
            ValueError: the message is cut off, or of another format, or there are too many fields.
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
                raise ValueError("it is none, or it is damaged")
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
                    if inner == INTS:  # several in one field are never ours
                        largest = max(largest, part if isinstance(part, int) else math.inf)
        return _Node(operation, domain, refused, largest, external)

    def external(self, message: int | memoryview) -> bool:
        """Whether an array says that its numbers are in another file."""
        return any(
            number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)
            for number, value in self.fields(message)
        )


def _integer(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number, seven bits in each byte, the lowest first; and where it ends."""
    value = 0
    for index, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise ValueError("it is none, or it is damaged")


def _quoted(text: str) -> str:
    return ascii(text[:40])
