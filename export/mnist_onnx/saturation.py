"""Check whether the int8 products of a file are the same on every CPU.

x86 CPUs without VNNI (those with AVX2 only, and the first with AVX-512) multiply uint8 by int8 with
`vpmaddubsw`, which adds two neighboring products in 16 bits and saturates: two weights of 127 times two
activations of 255 make 64,770, but the result is 32,767. CPUs with VNNI accumulate four products in 32 bits.
So the outputs of a file that uses the full int8 range depend on the CPU. Weights of magnitude at most
`MAX_STEP` cannot saturate: 255 * (64 + 64) = 32,640.
"""

import numpy as np
from onnx import ModelProto, numpy_helper

MAX_STEP = 64
_ACTIVATION_MAX = 255


def largest_pair_sum(steps: np.ndarray) -> int:
    """The largest magnitude of the sum of two products of one output, over all activations.

    The runtime chooses which two weights are neighbors, so every pair of one output counts.

    Args:
        steps: int8 weights `[out, ...]`.
    """
    rows = np.sort(steps.reshape(len(steps), -1).astype(int), axis=1)
    negative, positive = rows[:, :2].clip(max=0).sum(axis=1), rows[:, -2:].clip(min=0).sum(axis=1)
    return _ACTIVATION_MAX * int(max(positive.max(), -negative.min()))


def saturating_weights(model: ModelProto) -> list[str]:
    """The names of a model's int8 weights whose products with uint8 activations can saturate in 16 bits."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    origins = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    names = []
    for node in model.graph.node:
        weight = origins.get(node.input[1], "") if len(node.input) > 1 and node.input[0] in origins else ""
        if weight in tensors and node.op_type != "DequantizeLinear":
            steps = numpy_helper.to_array(tensors[weight])
            if steps.dtype == np.int8 and largest_pair_sum(steps) > np.iinfo(np.int16).max:
                names.append(weight.removesuffix(".steps"))
    return names


def saturation_warning(model: ModelProto) -> str:
    """A one-line warning for a model whose outputs depend on the CPU; empty for all others."""
    names = saturating_weights(model)
    if not names:
        return ""
    return (
        f"outputs depend on the CPU: int8 weights of {', '.join(names)} go past {MAX_STEP}, and their "
        "products saturate in 16 bits on x86 CPUs without VNNI; export the file again"
    )
