"""Whether a file's 8-bit products are the same on every processor.

x86 processors without VNNI (those with AVX2 alone, and the first with AVX-512) multiply uint8 by int8 with
`vpmaddubsw`, which adds two neighboring products in 16 bits and saturates: two weights of 127 under two
activations of 255 make 64,770, of which 32,767 is left. Newer processors add four products in 32 bits. So a
file whose weights use all of int8 answers differently from one machine to the next. Weights within
`MAX_STEP` of zero can't saturate: 255 * (64 + 64) = 32,640.
"""

import numpy as np
from onnx import ModelProto, numpy_helper

MAX_STEP = 64
_ACTIVATION_MAX = 255


def largest_pair_sum(steps: np.ndarray) -> int:
    """The largest magnitude that two products of one output can sum to, whatever the activations.

    Which two weights are neighbors is the runtime's choice, so every two of an output count.

    Args:
        steps: int8 weights, outputs first: `[out, ...]`.
    """
    rows = np.sort(steps.reshape(len(steps), -1).astype(int), axis=1)
    negative, positive = rows[:, :2].clip(max=0).sum(axis=1), rows[:, -2:].clip(min=0).sum(axis=1)
    return _ACTIVATION_MAX * int(max(positive.max(), -negative.min()))


def saturating_weights(model: ModelProto) -> list[str]:
    """The int8 weights of a model whose products with uint8 activations can saturate in 16 bits."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    origins = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    found = []
    for node in model.graph.node:
        weight = origins.get(node.input[1], "") if len(node.input) > 1 and node.input[0] in origins else ""
        if weight in tensors and node.op_type != "DequantizeLinear":
            steps = numpy_helper.to_array(tensors[weight])
            if steps.dtype == np.int8 and largest_pair_sum(steps) > np.iinfo(np.int16).max:
                found.append(weight.removesuffix(".steps"))
    return found


def saturation_warning(model: ModelProto) -> str:
    """One line for a model whose answers depend on the processor; empty for all others."""
    names = saturating_weights(model)
    if not names:
        return ""
    return (
        f"answers depend on the CPU: int8 weights of {', '.join(names)} go past {MAX_STEP}, and their "
        "products saturate in 16 bits on x86 processors without VNNI; export the file again"
    )
