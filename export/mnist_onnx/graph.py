"""A spec and its parameters become an ONNX graph: one loop over the layers.

Chosen for the widest reach: opset 17 and IR 8, which every runtime we know takes; `Gemm` with
`transB=1` and a bias of rank one; images as `[batch, 1, 28, 28]`, then `Flatten`; kernels in the order of
such pictures, so that nothing is transposed when it runs; no shape arithmetic; one file. The same
parameters give the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_jax import arrays
from mnist_jax.checks import check_params, check_spec
from mnist_jax.errors import ModelError, SpecError
from mnist_jax.files import write_atomic
from mnist_jax.networks import CLASSES, CNN, Spec
from mnist_jax.sources import DIGITS

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
        classes: the ten names, kept in the file.
        facts: more to keep in the file's metadata, such as the data set and the accuracy.

    Returns:
        A model from `images` `[batch, 1, 28, 28]` to `probabilities` or `logits` `[batch, 10]`, float32,
        for any batch size.

    Raises:
        SpecError: an option is unknown, the parameters are not the spec's or not finite, or the classes or
            facts are not texts.
    """
    if input not in ("uint8", "float32"):
        raise SpecError(f"input must be uint8 or float32; got {input!r}")
    if output not in ("probabilities", "logits"):
        raise SpecError(f"output must be probabilities or logits; got {output!r}")
    flat = checked_params(spec, params)
    if not isinstance(classes, Sequence) or len(classes) != CLASSES or not all(map(_is_text, classes)):
        raise SpecError(f"classes must be {CLASSES} names; got {classes!r}")
    if facts is not None and not isinstance(facts, Mapping):
        raise SpecError(f"facts must be a mapping of texts; got {facts!r}")
    for name, fact in (facts or {}).items():
        if not _is_text(name) or not _is_text(fact):
            raise SpecError(f"facts must be texts; got {fact!r} for {name!a}")

    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def node(op: str, inputs: list[str], result: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [result], name=result, **attributes))
        return result

    pixels = "images"
    if input == "uint8":
        pixels = node("Cast", [pixels], "cast", to=TensorProto.FLOAT)
        pixels = node("Mul", [pixels, constant("scale", np.float32(1 / 255))], "scaled")
    if isinstance(spec, CNN):
        pixels = _convolutions(spec, flat, pixels, node, constant)
    value = node("Flatten", [pixels], "pixels", axis=1)

    for index in range(len(spec.widths) - 1):
        layer, last = f"Dense_{index}", index == len(spec.activations)
        rows = flat[f"{layer}/kernel"]
        if isinstance(spec, CNN) and index == 0:
            rows = _channels_first(spec, rows)
        kernel = constant(f"{layer}.weight", rows.T)
        bias = constant(f"{layer}.bias", flat[f"{layer}/bias"])
        value = node("Gemm", [value, kernel, bias], "logits" if last else f"{layer}.out", transB=1)
        if not last:
            value = _activate(spec.activations[index], value, node, constant)
    if output == "probabilities":
        final = {"axis": -1} if spec.output == "softmax" else {}
        value = node(spec.output.capitalize(), [value], "probabilities", **final)

    dtype = TensorProto.UINT8 if input == "uint8" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "mnist_jax",
        [helper.make_tensor_value_info("images", dtype, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mnist-jax",
        producer_version=version("mnist-jax"),
        model_version=1,
        doc_string=f"{spec}: images [batch, 1, 28, 28], white on black, to {output} [batch, 10]",
    )
    helper.set_model_props(
        model,
        {
            **(facts or {}),
            "format": FORMAT,
            "input_range": "0..255" if input == "uint8" else "0..1",
            "labels": json.dumps(list(classes)),
            "network_output": spec.output,
            "output": output,
            "parameters_sha256": arrays.digest(flat),
        },
    )
    return model


def save(model: ModelProto, path: str | PathLike[str]) -> None:
    """Writes the file, and beside it a `.json` with all it says of itself, for runtimes that can't read that.

    Raises:
        ModelError: `path` does not end in `.onnx`; the `.json` is there and is something else; `to_onnx` has
            not built the model.
        OSError: a file cannot be written; what was there before still is.
    """
    if not isinstance(path, str | PathLike) or not isinstance(model, ModelProto):
        came = f"{type(model).__name__} and {path!r}"
        raise ModelError(f"save takes a model, as to_onnx builds it, and a file's path; got {came}")
    path = Path(path)
    if path.suffix != ".onnx":
        raise ModelError(f"an ONNX file's name must end in .onnx; got {path}")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    if "parameters_sha256" not in facts:
        raise ModelError("a model to save must be one that to_onnx has built; got another")
    card_path = path.with_suffix(".json")
    if card_path.exists() and not _is_card(card_path):
        raise ModelError(
            f"{card_path} would be overwritten, which describes no ONNX file; choose another name"
        )
    data = model.SerializeToString(deterministic=True)
    card = {
        **facts,
        "labels": json.loads(facts["labels"]),
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "opset": model.opset_import[0].version,
        "ir_version": model.ir_version,
        "inputs": [_describe(value) for value in model.graph.input],
        "outputs": [_describe(value) for value in model.graph.output],
        "producer": f"{model.producer_name} {model.producer_version}",
    }
    write_atomic(path, data)
    write_atomic(card_path, (json.dumps(card, indent=2, sort_keys=True) + "\n").encode())


def _is_text(value: Any) -> bool:
    """Whether it is a string that a file can hold: no half of a character."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_card(path: Path) -> bool:
    """Whether `save` has written that `.json` file."""
    try:
        card = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and "parameters_sha256" in card


def _describe(value: Any) -> dict[str, Any]:
    tensor = value.type.tensor_type
    return {
        "name": value.name,
        "dtype": helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        "shape": [axis.dim_param or axis.dim_value for axis in tensor.shape.dim],
    }


def _convolutions(spec: CNN, flat: dict[str, np.ndarray], value: str, node: Any, constant: Any) -> str:
    """Adds convolutions, activations and pooling; returns the name of the last picture."""
    before, after = (spec.kernel - 1) // 2, spec.kernel // 2
    pool = {"average": "AveragePool", "max": "MaxPool"}[spec.pool]
    for index, padding in enumerate(spec.padding):
        layer = f"Conv_{index}"
        kernel = constant(f"{layer}.weight", flat[f"{layer}/kernel"].transpose(3, 2, 0, 1))
        bias = constant(f"{layer}.bias", flat[f"{layer}/bias"])
        pads = [before, before, after, after] if padding == "same" else [0, 0, 0, 0]
        shape = [spec.kernel, spec.kernel]
        value = node("Conv", [value, kernel, bias], f"{layer}.out", kernel_shape=shape, pads=pads)
        value = _activate(spec.activation, value, node, constant)
        value = node(pool, [value], f"{layer}.pooled", kernel_shape=[2, 2], strides=[2, 2])
    return value


def _channels_first(spec: CNN, rows: np.ndarray) -> np.ndarray:
    """A dense kernel's rows, one for each pixel and channel, in the order of ONNX's pictures."""
    side, channels = spec.convolved[-1] // 2, spec.channels[-1]
    return rows.reshape(side, side, channels, -1).transpose(2, 0, 1, 3).reshape(rows.shape)


def _activate(activation: str, value: str, node: Any, constant: Any) -> str:
    """Adds the activation's nodes; returns the name of their result."""
    if activation != "gelu":
        return str(node(activation.capitalize(), [value], f"{value}.{activation}"))
    # Opset 17 has no Gelu, so JAX's tanh form is written out: x / 2 * (1 + tanh(c * (x + 0.044715 x^3))).
    square = node("Mul", [value, value], f"{value}.square")
    cube = node("Mul", [square, value], f"{value}.cube")
    small = node("Mul", [cube, constant(f"{value}.cubic", 0.044715)], f"{value}.small")
    total = node("Add", [value, small], f"{value}.sum")
    inner = node("Mul", [total, constant(f"{value}.slope", np.sqrt(2 / np.pi))], f"{value}.inner")
    squashed = node("Tanh", [inner], f"{value}.tanh")
    raised = node("Add", [squashed, constant(f"{value}.one", 1)], f"{value}.raised")
    share = node("Mul", [raised, constant(f"{value}.half", 0.5)], f"{value}.share")
    return str(node("Mul", [value, share], f"{value}.gelu"))


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
