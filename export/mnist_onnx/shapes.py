"""The shapes of all values inside one of our graphs, for viewers and compilers to show and to rely on.

Worked out here, and not by `onnx.shape_inference`, so that the same parameters give the same bytes with every
version of onnx. (A test holds the two together.)
"""

import math
from collections.abc import Iterator
from typing import Any

from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

Shape = list[Any]  # a whole number for each axis, or its name
POOLS = ("AveragePool", "MaxPool")


def value_info(graph: GraphProto) -> Iterator[ValueInfoProto]:
    """What each node of one of our graphs puts out, in their order, the graph's own output left out."""
    outputs = {value.name for value in graph.output}
    shapes: dict[str, Shape] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in graph.input:
        shapes[value.name] = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
    for node in graph.node:
        (name,) = node.output
        shapes[name] = _shape(node, [shapes[value] for value in node.input])
        dtype = TensorProto.UINT8 if node.op_type == "QuantizeLinear" else TensorProto.FLOAT
        if name not in outputs:
            yield helper.make_tensor_value_info(name, dtype, shapes[name])


def _shape(node: NodeProto, inputs: list[Shape]) -> Shape:
    first = inputs[0]
    if node.op_type == "Flatten":
        return [first[0], math.prod(first[1:])]
    if node.op_type == "Gemm":  # whose weights have a row for each output
        return [first[0], inputs[1][0]]
    if node.op_type == "Conv" or node.op_type in POOLS:
        given = {attribute.name: attribute.ints for attribute in node.attribute}
        kernel, pads, step = given["kernel_shape"][0], given.get("pads", [0]), given.get("strides", [1])[0]
        side = (first[2] + pads[0] + pads[-1] - kernel) // step + 1
        return [first[0], first[1] if node.op_type in POOLS else inputs[1][0], side, side]
    return max(inputs, key=len)  # number by number; a constant has no axes
