"""Build the ONNX graph of a network directly from its spec and parameters.

The graph is built for portability: opset 17 and IR version 8, which all tested runtimes support; `Gemm` with
`transB=1` and a rank-1 bias; images as `[batch, 1, 28, 28]`, then `Flatten`; kernels stored for that layout,
so that nothing is transposed at run time; no shape arithmetic; a single file. The same parameters give the
same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, TensorProto, helper

from mnist_jax._utils import param_dicts
from mnist_jax._utils.nested_dicts import SEPARATOR
from mnist_jax.config.input_checks import check_exportable, check_params, check_spec
from mnist_jax.config.networks import (
    CNN,
    IMAGE_SHAPE,
    LABELS,
    PIXEL_SCALE,
    Network,
    Spec,
    are_labels,
    members_by_prefix,
)
from mnist_jax.config.serialization import network_to_json
from mnist_jax.config.validation import shorten
from mnist_jax.data.registry import numbered
from mnist_jax.errors import SpecError
from mnist_onnx.activations import activate
from mnist_onnx.graph import Graph
from mnist_onnx.layout import to_file
from mnist_onnx.shapes import value_info

OPSET = 17
IR_VERSION = 8
FORMAT = "2"

Input = Literal["uint8", "float32"]
Output = Literal["probabilities", "logits"]


def to_onnx(
    spec: Spec,
    params: Mapping[str, Any],
    *,
    input: Input = "uint8",  # noqa: A002
    output: Output = "probabilities",
    classes: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ModelProto:
    """Builds the ONNX model of a network.

    Args:
        spec: the network.
        params: its parameters, NumPy or JAX arrays.
        input: dtype of the pixels. `uint8` takes 0..255 and scales inside the graph; `float32` takes 0..1.
        output: `probabilities` applies the spec's softmax or sigmoid; `logits` does not.
        classes: the class names to store in the file: distinct, printable, at most 200 characters. By
            default the numbers of the classes.
        metadata: more strings to store in the file, such as the data set and the accuracy.

    Returns:
        A model from `images` `[batch, 1, 28, 28]` to `probabilities` or `logits` `[batch, classes]`,
        float32, for any batch size.

    Raises:
        SpecError: an option is unknown, the parameters do not match the spec or are not finite, the network
            is too large for an ONNX file, the class names are invalid, or the metadata are not strings.

    Examples:
        >>> import jax, mnist_jax, mnist_onnx
        >>> spec = mnist_jax.MLP((16,), ("relu",))
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> model = mnist_onnx.to_onnx(spec, params, metadata={"dataset": "mnist"})
        >>> [node.op_type for node in model.graph.node]
        ['Cast', 'Mul', 'Flatten', 'Gemm', 'Relu', 'Gemm', 'Softmax']
    """
    extra = {} if metadata is None else metadata
    flat, names = _validate(spec, params, input, output, classes, extra)
    model = _build(spec, flat, input, output)
    helper.set_model_props(model, _describe(spec, flat, input, output, names, extra))
    return model


def _validate(
    spec: Spec, params: Any, input_: str, output: str, classes: Any, metadata: Any
) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    """Checks the arguments of `to_onnx`; returns the parameters, flat and as float32, and the class names."""
    if input_ not in ("uint8", "float32"):
        raise SpecError(f"input must be uint8 or float32; got {input_!r}")
    if output not in ("probabilities", "logits"):
        raise SpecError(f"output must be probabilities or logits; got {output!r}")
    flat = checked_params(spec, params)
    names = class_names(spec, classes)
    if not isinstance(metadata, Mapping):
        raise SpecError(f"metadata must be a mapping of strings; got {metadata!r}")
    for key, value in metadata.items():
        if not _is_text(key) or not _is_text(value):
            raise SpecError(f"metadata must be strings; got {shorten(value)} for {shorten(key)}")
    return flat, names


def class_names(spec: Spec, classes: Any) -> Sequence[str]:
    """The class names to store in a file; None for the numbers of the classes.

    Raises:
        SpecError: they are not one name for each class.
    """
    names: Sequence[str] = numbered(spec.num_classes) if classes is None else classes
    if not are_labels(names) or len(names) != spec.num_classes:
        raise SpecError(f"classes must be {spec.num_classes} {LABELS}; got {shorten(names)}")
    return names


def _build(spec: Spec, flat: Mapping[str, np.ndarray], input_: str, output: str) -> ModelProto:
    """Builds the model, without metadata."""
    graph = Graph(to_file(spec, flat))
    pixels = "images"
    if input_ == "uint8":
        pixels = graph.node("Cast", [pixels], "cast", to=TensorProto.FLOAT)
        pixels = graph.node("Mul", [pixels, graph.constant("scale", PIXEL_SCALE)], "scaled")
    logits = [
        _layers(graph, network, pixels, prefix.replace(SEPARATOR, "."))
        for prefix, network in members_by_prefix(spec).items()
    ]
    value = logits[0]
    if len(logits) > 1:  # the mean over the members of an ensemble
        total = graph.node("Sum", logits, "sum")
        value = graph.node("Mul", [total, graph.constant("share", 1 / len(logits))], "logits")
    if output == "probabilities":
        attributes = {"axis": -1} if spec.output == "softmax" else {}
        value = graph.node(spec.output.capitalize(), [value], "probabilities", **attributes)

    classes = spec.num_classes
    dtype = TensorProto.UINT8 if input_ == "uint8" else TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mnist_jax",
            [helper.make_tensor_value_info("images", dtype, ["batch", 1, *IMAGE_SHAPE])],
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", classes])],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mnist-jax",
        producer_version=version("mnist-jax"),
        model_version=1,
        doc_string=f"{spec}: images [batch, 1, 28, 28], white on black, to {output} [batch, {classes}]",
    )
    model.graph.value_info.extend(value_info(model.graph))
    return model


def _describe(
    spec: Spec,
    flat: Mapping[str, np.ndarray],
    input_: str,
    output: str,
    classes: Sequence[str],
    metadata: Mapping[str, str],
) -> dict[str, str]:
    """The metadata of the file: the caller's, and what `load` and `Classifier` need."""
    return {
        **metadata,
        "format": FORMAT,
        "input_range": "0..255" if input_ == "uint8" else "0..1",
        "labels": json.dumps(list(classes)),
        "network": json.dumps(network_to_json(spec)),
        "network_output": spec.output,
        "output": output,
        "parameters_sha256": param_dicts.digest(flat),
        "precision": "float32",
    }


def _layers(graph: Graph, network: Network, value: str, prefix: str) -> str:
    """Adds a network's layers; returns the name of its logits."""
    if isinstance(network, CNN):
        value = _convolutions(graph, network, value, prefix)
    value = graph.node("Flatten", [value], f"{prefix}pixels", axis=1)
    for index in range(len(network.layer_sizes) - 1):
        layer, last = f"{prefix}Dense_{index}", index == len(network.activations)
        inputs = [value, *graph.parameters(layer)]
        value = graph.node("Gemm", inputs, f"{prefix}logits" if last else f"{layer}.out", transB=1)
        if not last:
            value = activate(graph, network.activations[index], value)
    return value


def _convolutions(graph: Graph, spec: CNN, value: str, prefix: str) -> str:
    """Adds convolutions, activations and pooling; returns the name of the last feature map."""
    before, after = (spec.kernel_size - 1) // 2, spec.kernel_size // 2
    pool = {"average": "AveragePool", "max": "MaxPool"}[spec.pool]
    for index, padding in enumerate(spec.padding):
        layer = f"{prefix}Conv_{index}"
        inputs = [value, *graph.parameters(layer)]
        pads = [before, before, after, after] if padding == "same" else [0, 0, 0, 0]
        shape = [spec.kernel_size, spec.kernel_size]
        value = graph.node("Conv", inputs, f"{layer}.out", kernel_shape=shape, pads=pads)
        value = activate(graph, spec.activation, value)
        value = graph.node(pool, [value], f"{layer}.pooled", kernel_shape=[2, 2], strides=[2, 2])
    return value


def _is_text(value: Any) -> bool:
    """Whether it is a string that can be encoded: without lone surrogates."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def checked_params(spec: Spec, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Checks parameters against their spec.

    Returns:
        The parameters as float32, by name, such as `Dense_0/kernel`.

    Raises:
        SpecError: the network is too large for an ONNX file; or the parameters do not match the spec, or are
            not all finite.
    """
    check_spec(spec)
    check_exportable(spec)
    check_params(spec, params)
    flat = param_dicts.flatten(params)
    for name, array in flat.items():
        if array.dtype.kind != "f" or not np.isfinite(array.astype(np.float32)).all():
            raise SpecError(f"params must be finite float32 numbers; got others in {name}, {array.dtype}")
    return {name: array.astype(np.float32) for name, array in flat.items()}
