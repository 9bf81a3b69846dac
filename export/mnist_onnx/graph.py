"""An ONNX graph under construction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper


class Graph:
    """A graph under construction; each method returns the name of what it adds.

    Args:
        weights: the parameters by their names in the file.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self._weights = weights

    def node(self, op: str, inputs: Sequence[str], result: str, **attributes: Any) -> str:
        """Adds a node with one output, named `result` as the node itself."""
        self.nodes.append(helper.make_node(op, inputs, [result], name=result, **attributes))
        return result

    def constant(self, name: str, value: Any) -> str:
        """Adds a float32 constant."""
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def parameters(self, layer: str) -> list[str]:
        """Adds the weight and the bias of a layer."""
        return [self.constant(name, self._weights[name]) for name in (f"{layer}.weight", f"{layer}.bias")]
