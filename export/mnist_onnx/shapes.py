"""Shape inference for the graphs that `to_onnx` builds, as `value_info` for viewers and compilers.

`onnx.shape_inference` is not used, so that the same parameters give the same bytes with every version of
onnx. A test checks that both agree.
"""

import math
from collections.abc import Iterator
from typing import Any

from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

Shape = list[Any]  # per axis an int, or the name of a dynamic axis
POOLS = ("AveragePool", "MaxPool")


def value_info(graph: GraphProto) -> Iterator[ValueInfoProto]:
    """Yields the name, dtype and shape of each node's output, in node order, without the graph's outputs."""
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
    """The shape of a node's output."""
    first = inputs[0]
    if node.op_type == "Flatten":
        return [first[0], math.prod(first[1:])]
    if node.op_type == "Gemm":  # its weight is [out, in]
        return [first[0], inputs[1][0]]
    if node.op_type == "Conv" or node.op_type in POOLS:
        attributes = {attribute.name: attribute.ints for attribute in node.attribute}
        kernel, stride = attributes["kernel_shape"][0], attributes.get("strides", [1])[0]
        pads = attributes.get("pads", [0])
        side = (first[2] + pads[0] + pads[-1] - kernel) // stride + 1
        return [first[0], first[1] if node.op_type in POOLS else inputs[1][0], side, side]
    return max(inputs, key=len)  # elementwise: constants are scalars
