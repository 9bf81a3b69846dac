"""Smaller files: kernels in fewer bits, and what that costs.

    float16        kernels are kept in half the bytes
    int8           kernels are kept in a quarter, a scale for each output (Jacob et al. 2018, section 2.1)
    int8-static    activations are rounded to 8 bits too, by ranges seen on training images (section 3.1)

The first two spread their kernels out to float32 when they are loaded, and compute just what JAX computes
with the rounded kernels: that is proven, as for any file. The third is for runtimes with 8-bit arithmetic;
its weights stay within -64 to 64, so that no processor's products saturate (see `saturation`).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_jax import arrays
from mnist_jax.checks import as_examples, as_images
from mnist_jax.errors import InputError, ModelError, SpecError
from mnist_jax.networks import Spec
from mnist_jax.settings import check_one_of
from mnist_onnx.classifier import read_metadata
from mnist_onnx.limits import check_ours
from mnist_onnx.saturation import MAX_STEP, saturating_weights
from mnist_onnx.sessions import open_session, run
from mnist_onnx.shapes import value_info
from mnist_onnx.weights import from_file, to_file

if TYPE_CHECKING:
    from mnist_jax.types import HeldOut

Precision = Literal["float16", "int8", "int8-static"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LAYERS = ("Conv", "Gemm")
FLOAT16_MAX = 65504
INT8_MAX = 127

Rounding = tuple[np.ndarray, np.ndarray]  # an activation's step, and the step that stands for zero


def quantize(model: ModelProto, precision: Precision, *, images: Any = None) -> ModelProto:
    """A smaller file of a float32 one.

    Args:
        model: as `to_onnx` builds it.
        precision: one of `PRECISIONS`.
        images: for `int8-static`, training images, uint8 `[n, 28, 28]`, whose activations set the ranges.

    Raises:
        SpecError: there is no such precision, or a weight is too large for it.
        InputError: `int8-static` without images, or other images.
        ModelError: the model is not one that `to_onnx` has built.
    """
    check_one_of("precision", precision, PRECISIONS)
    if not isinstance(model, ModelProto):
        raise ModelError(
            f"a model to quantize must be one that to_onnx has built; got {type(model).__name__}"
        )
    facts = {entry.key: entry.value for entry in model.metadata_props}
    if facts.get("precision") != "float32":
        raise ModelError("a model to quantize must be a float32 one that to_onnx has built; got another")
    if precision != "int8-static":
        return _rewritten(model, precision, {})
    ranges = _ranges(model, _uint8(images), facts["input_range"])
    return _rewritten(model, precision, {value: _rounding(*span) for value, span in ranges.items()})


def _uint8(images: Any) -> np.ndarray:
    found = np.asarray(as_images(images))
    if found.dtype != np.uint8 or not len(found):
        raise InputError(f"images must be uint8, at least one; got {len(found)} of {found.dtype}")
    return found


def is_static(model: ModelProto, original: ModelProto) -> bool:
    """Whether a model is the `int8-static` one of a float32 one, whatever the ranges of its activations.

    Weights that use all of int8, of which `saturation` warns, are such a model's too.
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
    """The model with its layers' weights in fewer bits, and their inputs in steps where these are given."""
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
    facts = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(smaller, {**facts, "precision": precision})
    return smaller


def _rounding(low: float, high: float) -> Rounding:
    """The float32 step and the uint8 zero that spread 0 to 255 over a range."""
    scale = (high - low) / 255 or 1.0
    return np.array(scale, np.float32), np.array(np.rint(-low / scale).clip(0, 255), np.uint8)


class _Rewritten:
    """A graph's nodes once more, layers with other weights."""

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
        self._again(node, [value, f"{name}.float", bias])

    def add_in_integers(self, node: NodeProto, scale: np.ndarray, zero: np.ndarray, max_step: int) -> None:
        value, name, bias = node.input
        # A bias is a whole number of steps of the products: these must not be so small that it has too many.
        least = np.abs(self.tensors[bias]) / (np.float32(2**30) * scale)
        steps, scales = to_int8(self.tensors[name], least, max_step)
        self.tensors |= {f"{value}.scale": scale, f"{value}.zero": zero}
        rounding = [f"{value}.scale", f"{value}.zero"]
        self._node("QuantizeLinear", [value, *rounding], f"{value}.steps")
        self._node("DequantizeLinear", [f"{value}.steps", *rounding], f"{value}.float")
        self._dequantized(name, steps, scales)
        # Of the scale of the products, so that a runtime can add it to their sums of 32-bit integers.
        bias_scales = scales * scale
        whole = np.rint(self.tensors[bias] / bias_scales).astype(np.int32)
        self._dequantized(bias, whole, bias_scales)
        self._again(node, [f"{value}.float", f"{name}.float", f"{bias}.float"])

    def used(self) -> Iterator[tuple[str, np.ndarray]]:
        names = {name for node in self.nodes for name in node.input}
        return ((name, array) for name, array in self.tensors.items() if name in names)

    def _dequantized(self, name: str, steps: np.ndarray, scales: np.ndarray) -> None:
        zeros = np.zeros(len(scales), steps.dtype)
        self.tensors |= {f"{name}.steps": steps, f"{name}.scales": scales, f"{name}.zeros": zeros}
        inputs = [f"{name}.steps", f"{name}.scales", f"{name}.zeros"]
        self._node("DequantizeLinear", inputs, f"{name}.float", axis=0)

    def _again(self, node: NodeProto, inputs: list[str]) -> None:
        same = NodeProto()
        same.CopyFrom(node)
        same.input[:] = inputs
        self.nodes.append(same)

    def _node(self, op: str, inputs: list[str], result: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [result], name=result, **attributes))


def rounded(spec: Spec, params: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """The parameters, float32, that a file with weights of that precision computes with.

    Raises:
        SpecError: a weight is too large for it.
    """
    found = to_file(spec, arrays.flatten(params))
    for name, array in found.items():
        if array.ndim > 1 and precision == "float16":
            found[name] = to_float16(array).astype(np.float32)
        elif array.ndim > 1 and precision == "int8":
            steps, scales = to_int8(array)
            found[name] = steps * scales.reshape(-1, *[1] * (array.ndim - 1))
    return arrays.unflatten(from_file(spec, found))


def to_float16(kernel: np.ndarray) -> np.ndarray:
    """A kernel in half the bytes.

    Raises:
        SpecError: a weight is too large.
    """
    if np.abs(kernel).max() > FLOAT16_MAX:
        largest = np.abs(kernel).max()
        raise SpecError(f"weights must be at most {FLOAT16_MAX:,} for float16; got {largest:g}")
    return kernel.astype(np.float16)


def to_int8(kernel: np.ndarray, least: Any = 0, max_step: int = INT8_MAX) -> tuple[np.ndarray, np.ndarray]:
    """A kernel whose outputs come first, as int8, and the float32 scale of each output, of at least `least`.

    Symmetric, so that 0 stays 0: the largest weight of each output becomes `max_step` or its negative.
    """
    largest = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
    scales = np.maximum(np.maximum(largest / np.float32(max_step), np.finfo(np.float32).tiny), least)
    steps = np.rint(kernel / scales.reshape(-1, *[1] * (kernel.ndim - 1)))
    return steps.clip(-max_step, max_step).astype(np.int8), scales


def _ranges(model: ModelProto, images: np.ndarray, input_range: str) -> dict[str, tuple[float, float]]:
    """The smallest and the largest number, 0 among them, that comes into each layer."""
    names = [node.input[0] for node in model.graph.node if node.op_type in LAYERS]
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    session = open_session(watched.SerializeToString())
    pixels = images if input_range == "0..255" else images * np.float32(1 / 255)
    found = session.run(names, {"images": pixels[:, None]})
    return {n: (min(0.0, float(a.min())), float(a.max())) for n, a in zip(names, found, strict=True)}


class Cost(NamedTuple):
    """What a smaller file costs, measured on a test set in ONNX Runtime.

    Attributes:
        n: images.
        flips: of them with another answer.
        max_abs_difference: the largest of the outputs.
        accuracy_before, accuracy_after: shares of right answers.
        bytes_before, bytes_after: of the files.
    """

    n: int
    flips: int
    max_abs_difference: float
    accuracy_before: float
    accuracy_after: float
    bytes_before: int
    bytes_after: int


def cost(before: bytes, after: bytes, test: "HeldOut") -> Cost:
    """Compares the answers of two files on a test set.

    Args:
        before: the file that both come from.
        after: the smaller one.
        test: uint8 images and labels.

    Raises:
        ModelError: a file can't be run.
        InputError: images or labels are not what they must be, or there are none.
    """
    images, labels = as_examples(test)
    old, new = (_answers(data, _uint8(images)) for data in (before, after))
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


def _answers(data: bytes, images: np.ndarray) -> np.ndarray:
    check_ours(data)
    session = open_session(data)
    if read_metadata(session)["input_range"] == "0..1":
        images = images * np.float32(1 / 255)
    return run(session, {"images": images[:, None]}, None)[0]
