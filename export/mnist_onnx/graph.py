"""A spec and its parameters become an ONNX graph: one loop over the layers, a branch for each network.

Chosen for the widest reach: opset 17 and IR 8, which every runtime we know takes; `Gemm` with
`transB=1` and a bias of rank one; images as `[batch, 1, 28, 28]`, then `Flatten`; kernels in the order of
such pictures, so that nothing is transposed when it runs; no shape arithmetic; one file. The same
parameters give the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_jax import arrays
from mnist_jax.checks import LABELS, are_labels, check_params, check_spec
from mnist_jax.errors import SpecError
from mnist_jax.networks import CNN, Network, Spec, parts
from mnist_jax.settings import shorten
from mnist_jax.sources import DIGITS
from mnist_jax.specs import network_to_json
from mnist_onnx.shapes import value_info
from mnist_onnx.weights import to_file

OPSET = 17
IR_VERSION = 8
FORMAT = "1"

Input = Literal["uint8", "float32"]
Output = Literal["probabilities", "logits"]


def to_onnx(
    spec: Spec,
    params: Mapping[str, Any],
    *,
    input: Input = "uint8",  # noqa: A002
    output: Output = "probabilities",
    classes: Sequence[str] = DIGITS,
    facts: Mapping[str, str] | None = None,
) -> ModelProto:
    """Builds the ONNX model.

    Args:
        spec: the network.
        params: its parameters, NumPy or JAX arrays.
        input: `uint8` takes pixels 0..255 and scales them inside; `float32` takes them in 0..1.
        output: `probabilities` gives what the spec's output says, softmax or ten sigmoids.
        classes: the ten names, kept in the file: all different, printable, of up to 200 characters.
        facts: more to keep in the file's metadata, such as the data set and the accuracy.

    Returns:
        A model from `images` `[batch, 1, 28, 28]` to `probabilities` or `logits` `[batch, 10]`, float32,
        for any batch size.

    Raises:
        SpecError: an option is unknown, the parameters are not the spec's or not finite, or the classes are
            no such names, or the facts no texts.
    """
    if input not in ("uint8", "float32"):
        raise SpecError(f"input must be uint8 or float32; got {input!r}")
    if output not in ("probabilities", "logits"):
        raise SpecError(f"output must be probabilities or logits; got {output!r}")
    flat = checked_params(spec, params)
    if not are_labels(classes):
        raise SpecError(f"classes must be {LABELS}; got {shorten(classes)}")
    if facts is not None and not isinstance(facts, Mapping):
        raise SpecError(f"facts must be a mapping of texts; got {facts!r}")
    for name, fact in (facts or {}).items():
        if not _is_text(name) or not _is_text(fact):
            raise SpecError(f"facts must be texts; got {shorten(fact)} for {shorten(name)}")

    graph = _Graph(to_file(spec, flat))
    pixels = "images"
    if input == "uint8":
        pixels = graph.node("Cast", [pixels], "cast", to=TensorProto.FLOAT)
        pixels = graph.node("Mul", [pixels, graph.constant("scale", 1 / 255)], "scaled")
    answers = [
        _layers(graph, network, pixels, prefix.replace(arrays.SEPARATOR, "."))
        for prefix, network in parts(spec).items()
    ]
    value = answers[0]
    if len(answers) > 1:
        shared = [graph.node("Sum", answers, "sum"), graph.constant("share", 1 / len(answers))]
        value = graph.node("Mul", shared, "logits")
    if output == "probabilities":
        final = {"axis": -1} if spec.output == "softmax" else {}
        value = graph.node(spec.output.capitalize(), [value], "probabilities", **final)

    dtype = TensorProto.UINT8 if input == "uint8" else TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mnist_jax",
            [helper.make_tensor_value_info("images", dtype, ["batch", 1, 28, 28])],
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", 10])],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mnist-jax",
        producer_version=version("mnist-jax"),
        model_version=1,
        doc_string=f"{spec}: images [batch, 1, 28, 28], white on black, to {output} [batch, 10]",
    )
    model.graph.value_info.extend(value_info(model.graph))
    helper.set_model_props(
        model,
        {
            **(facts or {}),
            "format": FORMAT,
            "input_range": "0..255" if input == "uint8" else "0..1",
            "labels": json.dumps(list(classes)),
            "network": json.dumps(network_to_json(spec)),
            "network_output": spec.output,
            "output": output,
            "parameters_sha256": arrays.digest(flat),
            "precision": "float32",
        },
    )
    return model


class _Graph:
    """A graph while it grows; each method gives the name of what it has added."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self._weights = weights

    def node(self, op: str, inputs: Sequence[str], result: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [result], name=result, **attributes))
        return result

    def constant(self, name: str, value: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def parameters(self, layer: str) -> list[str]:
        return [self.constant(name, self._weights[name]) for name in (f"{layer}.weight", f"{layer}.bias")]


def _layers(graph: _Graph, network: Network, value: str, prefix: str) -> str:
    """Adds a network's layers; returns the name of its logits."""
    if isinstance(network, CNN):
        value = _convolutions(graph, network, value, prefix)
    value = graph.node("Flatten", [value], f"{prefix}pixels", axis=1)
    for index in range(len(network.widths) - 1):
        layer, last = f"{prefix}Dense_{index}", index == len(network.activations)
        inputs = [value, *graph.parameters(layer)]
        value = graph.node("Gemm", inputs, f"{prefix}logits" if last else f"{layer}.out", transB=1)
        if not last:
            value = _activate(graph, network.activations[index], value)
    return value


def _convolutions(graph: _Graph, spec: CNN, value: str, prefix: str) -> str:
    """Adds convolutions, activations and pooling; returns the name of the last picture."""
    before, after = (spec.kernel - 1) // 2, spec.kernel // 2
    pool = {"average": "AveragePool", "max": "MaxPool"}[spec.pool]
    for index, padding in enumerate(spec.padding):
        layer = f"{prefix}Conv_{index}"
        inputs = [value, *graph.parameters(layer)]
        pads = [before, before, after, after] if padding == "same" else [0, 0, 0, 0]
        shape = [spec.kernel, spec.kernel]
        value = graph.node("Conv", inputs, f"{layer}.out", kernel_shape=shape, pads=pads)
        value = _activate(graph, spec.activation, value)
        value = graph.node(pool, [value], f"{layer}.pooled", kernel_shape=[2, 2], strides=[2, 2])
    return value


def _activate(graph: _Graph, activation: str, value: str) -> str:
    """Adds the activation's nodes; returns the name of their result."""
    if activation != "gelu":
        return graph.node(activation.capitalize(), [value], f"{value}.{activation}")
    # Opset 17 has no Gelu, so JAX's tanh form is written out: x / 2 * (1 + tanh(c * (x + 0.044715 x^3))).
    square = graph.node("Mul", [value, value], f"{value}.square")
    cube = graph.node("Mul", [square, value], f"{value}.cube")
    small = graph.node("Mul", [cube, graph.constant(f"{value}.cubic", 0.044715)], f"{value}.small")
    total = graph.node("Add", [value, small], f"{value}.sum")
    slope = graph.constant(f"{value}.slope", np.sqrt(2 / np.pi))
    inner = graph.node("Mul", [total, slope], f"{value}.inner")
    squashed = graph.node("Tanh", [inner], f"{value}.tanh")
    raised = graph.node("Add", [squashed, graph.constant(f"{value}.one", 1)], f"{value}.raised")
    share = graph.node("Mul", [raised, graph.constant(f"{value}.half", 0.5)], f"{value}.share")
    return graph.node("Mul", [value, share], f"{value}.gelu")


def _is_text(value: Any) -> bool:
    """Whether it is a string that a file can hold: no half of a character."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def checked_params(spec: Spec, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parameters by name, `Dense_0/kernel` and so on, as float32.

    Raises:
        SpecError: they are not the spec's, or not all finite.
    """
    check_spec(spec)
    check_params(spec, params)
    flat = arrays.flatten(params)
    for name, array in flat.items():
        if array.dtype.kind != "f" or not np.isfinite(array.astype(np.float32)).all():
            raise SpecError(f"params must be finite float32 numbers; got others in {name}, {array.dtype}")
    return {name: array.astype(np.float32) for name, array in flat.items()}
