"""Quantization of ONNX files, and its cost in accuracy.

    float16        kernels in float16, half the size
    int8           kernels in int8, a quarter of the size, with a scale per output (Jacob et al. 2018,
                   section 2.1)
    int8-static    activations in uint8 too, with ranges calibrated on training images (section 3.1)

Files of the first two kinds convert their kernels to float32 when they are loaded, and compute exactly what
JAX computes with the rounded kernels; `check_parity` proves that. The third is for runtimes with 8-bit
arithmetic. Its weights stay within -64 to 64, so that products saturate on no CPU (see `saturation`).
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_jax._utils import param_dicts
from mnist_jax.config.input_checks import as_examples, as_images
from mnist_jax.config.networks import PIXEL_SCALE, Spec
from mnist_jax.config.validation import check_choice
from mnist_jax.errors import InputError, ModelError
from mnist_onnx.classifier import read_metadata
from mnist_onnx.graph_limits import check_ours
from mnist_onnx.layout import from_file, to_file
from mnist_onnx.rounding import INT8_MAX, per_output, to_float16, to_int8
from mnist_onnx.saturation import MAX_STEP, saturating_weights
from mnist_onnx.session import metadata_of_model, open_session, run
from mnist_onnx.shapes import value_info

if TYPE_CHECKING:
    from mnist_jax.data.examples import TestSet

Precision = Literal["float16", "int8", "int8-static"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LAYERS = ("Conv", "Gemm")

Rounding = tuple[np.ndarray, np.ndarray]  # scale and zero point of an activation


def quantize(model: ModelProto, precision: Precision, *, images: Any = None) -> ModelProto:
    """Converts a float32 model to a smaller precision.

    Args:
        model: a float32 model that `to_onnx` built.
        precision: one of `PRECISIONS`.
        images: for `int8-static`, training images, uint8 `[n, 28, 28]`, to calibrate the ranges of
            activations.

    Returns:
        A new model; `model` stays unchanged.

    Raises:
        SpecError: there is no such precision, or a weight is too large for it.
        InputError: the precision is `int8-static` and `images` are missing or not uint8 `[n, 28, 28]`.
        ModelError: the model is not a float32 one that `to_onnx` built.
    """
    check_choice("precision", precision, PRECISIONS)
    if not isinstance(model, ModelProto):
        raise ModelError(f"a model to quantize must be one that to_onnx built; got {type(model).__name__}")
    metadata = metadata_of_model(model)
    if metadata.get("precision") != "float32":
        raise ModelError("a model to quantize must be a float32 one that to_onnx built; got another")
    if precision != "int8-static":
        return _rewritten(model, precision, {})
    ranges = _ranges(model, _uint8(images), metadata["input_range"])
    return _rewritten(model, precision, {value: _rounding(*span) for value, span in ranges.items()})


def _uint8(images: Any) -> np.ndarray:
    array = np.asarray(as_images(images))
    if array.dtype != np.uint8 or not len(array):
        raise InputError(f"images must be uint8, at least one; got {len(array)} of {array.dtype}")
    return array


def is_int8_static(model: ModelProto, original: ModelProto) -> bool:
    """Whether a model is the `int8-static` version of a float32 one, with any ranges of activations.

    A model whose weights use the full int8 range, of which `saturation` warns, counts as well.

    Args:
        model: the model to check.
        original: the float32 model.
    """
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    max_step = INT8_MAX if saturating_weights(model) else MAX_STEP
    try:
        roundings = {
            node.input[0]: (tensors[f"{node.input[0]}.scale"], tensors[f"{node.input[0]}.zero"])
            for node in original.graph.node
            if node.op_type in LAYERS
        }
        return bool(_rewritten(original, "int8-static", roundings, max_step).graph == model.graph)
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return False


def _rewritten(
    model: ModelProto, precision: str, roundings: dict[str, Rounding], max_step: int = MAX_STEP
) -> ModelProto:
    """Rewrites a model with quantized weights, and for `int8-static` with quantized activations."""
    smaller = ModelProto()
    smaller.CopyFrom(model)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    graph = _Rewritten(tensors)
    for node in model.graph.node:
        if node.op_type not in LAYERS:
            graph.nodes.append(node)
        elif precision == "int8-static":
            graph.add_in_integers(node, *roundings[node.input[0]], max_step)
        else:
            graph.add_with_rounded_kernel(node, precision)
    del smaller.graph.node[:], smaller.graph.initializer[:], smaller.graph.value_info[:]
    smaller.graph.node.extend(graph.nodes)
    smaller.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in graph.used())
    smaller.graph.value_info.extend(value_info(smaller.graph))
    helper.set_model_props(smaller, {**metadata_of_model(model), "precision": precision})
    return smaller


def _rounding(low: float, high: float) -> Rounding:
    """The float32 scale and the uint8 zero point that map 0 to 255 onto a range."""
    scale = (high - low) / 255 or 1.0
    return np.array(scale, np.float32), np.array(np.rint(-low / scale).clip(0, 255), np.uint8)


class _Rewritten:
    """A copy of a graph's nodes under construction, in which layers get quantized weights."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors = dict(tensors)

    def add_with_rounded_kernel(self, node: NodeProto, precision: str) -> None:
        value, name, bias = node.input
        if precision == "float16":
            self.tensors[f"{name}.half"] = to_float16(self.tensors[name])
            self._node("Cast", [f"{name}.half"], f"{name}.float", to=TensorProto.FLOAT)
        else:
            self._dequantized(name, *to_int8(self.tensors[name]))
        self._copy(node, [value, f"{name}.float", bias])

    def add_in_integers(self, node: NodeProto, scale: np.ndarray, zero: np.ndarray, max_step: int) -> None:
        value, name, bias = node.input
        # The bias is an int32 multiple of the products' scale, so this scale must not be too small for it.
        min_scale = np.abs(self.tensors[bias]) / (np.float32(2**30) * scale)
        steps, scales = to_int8(self.tensors[name], min_scale, max_step)
        self.tensors |= {f"{value}.scale": scale, f"{value}.zero": zero}
        rounding = [f"{value}.scale", f"{value}.zero"]
        self._node("QuantizeLinear", [value, *rounding], f"{value}.steps")
        self._node("DequantizeLinear", [f"{value}.steps", *rounding], f"{value}.float")
        self._dequantized(name, steps, scales)
        # In the scale of the products, so that a runtime can add the bias to their int32 sums.
        bias_scales = scales * scale
        bias_steps = np.rint(self.tensors[bias] / bias_scales).astype(np.int32)
        self._dequantized(bias, bias_steps, bias_scales)
        self._copy(node, [f"{value}.float", f"{name}.float", f"{bias}.float"])

    def used(self) -> Iterator[tuple[str, np.ndarray]]:
        names = {name for node in self.nodes for name in node.input}
        return ((name, array) for name, array in self.tensors.items() if name in names)

    def _dequantized(self, name: str, steps: np.ndarray, scales: np.ndarray) -> None:
        zeros = np.zeros(len(scales), steps.dtype)
        self.tensors |= {f"{name}.steps": steps, f"{name}.scales": scales, f"{name}.zeros": zeros}
        inputs = [f"{name}.steps", f"{name}.scales", f"{name}.zeros"]
        self._node("DequantizeLinear", inputs, f"{name}.float", axis=0)

    def _copy(self, node: NodeProto, inputs: list[str]) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        self.nodes.append(copy)

    def _node(self, op: str, inputs: list[str], result: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [result], name=result, **attributes))


def rounded(spec: Spec, params: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """The float32 parameters that a file of a given precision computes with.

    Raises:
        SpecError: a weight is too large for the precision.
    """
    weights = to_file(spec, param_dicts.flatten(params))
    for name, array in weights.items():
        if array.ndim > 1 and precision == "float16":
            weights[name] = to_float16(array).astype(np.float32)
        elif array.ndim > 1 and precision == "int8":
            steps, scales = to_int8(array)
            weights[name] = steps * per_output(scales, array.ndim)
    return param_dicts.unflatten(from_file(spec, weights))


def _ranges(model: ModelProto, images: np.ndarray, input_range: str) -> dict[str, tuple[float, float]]:
    """The smallest and the largest input of each layer on some images; the ranges include 0."""
    names = [node.input[0] for node in model.graph.node if node.op_type in LAYERS]
    observed = ModelProto()
    observed.CopyFrom(model)
    observed.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    session = open_session(observed.SerializeToString())
    pixels = images if input_range == "0..255" else images * np.float32(PIXEL_SCALE)
    values = session.run(names, {"images": pixels[:, None]})
    return {n: (min(0.0, float(a.min())), float(a.max())) for n, a in zip(names, values, strict=True)}


class Cost(NamedTuple):
    """The cost of quantization, measured on a test set in ONNX Runtime.

    Attributes:
        n: the number of images.
        flips: the number of images whose predicted class changed.
        max_abs_difference: the largest difference of the outputs.
        accuracy_before: the test accuracy of the original file, 0..1.
        accuracy_after: the test accuracy of the smaller file, 0..1.
        bytes_before: the size of the original file.
        bytes_after: the size of the smaller file.
    """

    n: int
    flips: int
    max_abs_difference: float
    accuracy_before: float
    accuracy_after: float
    bytes_before: int
    bytes_after: int


def cost(before: bytes, after: bytes, test: "TestSet") -> Cost:
    """Compares the predictions of two files on a test set.

    Args:
        before: the bytes of the original file.
        after: the bytes of the smaller file.
        test: uint8 images and labels.

    Raises:
        ModelError: a file cannot be run.
        InputError: the images or labels have a wrong shape, dtype or range, or there are none.
    """
    images, labels = as_examples(test)
    old, new = (_outputs(data, _uint8(images)) for data in (before, after))
    labels = np.asarray(labels)
    return Cost(
        n=len(labels),
        flips=int((old.argmax(-1) != new.argmax(-1)).sum()),
        max_abs_difference=float(np.abs(old - new).max()),
        accuracy_before=float((old.argmax(-1) == labels).mean()),
        accuracy_after=float((new.argmax(-1) == labels).mean()),
        bytes_before=len(before),
        bytes_after=len(after),
    )


def _outputs(data: bytes, images: np.ndarray) -> np.ndarray:
    check_ours(data)
    session = open_session(data)
    metadata = read_metadata(session)
    if metadata["input_range"] == "0..1":
        images = images * np.float32(PIXEL_SCALE)
    num_classes = len(json.loads(metadata["labels"]))
    return run(session, {"images": images[:, None]}, None, num_classes=num_classes)[0]
