"""Proof that an ONNX file computes the same as the JAX model.

Comparing predicted classes on test images proves little: without its output bias a network changes 4
predictions in 10,000, with pixels scaled by 1/256 instead of 1/255 none, and weights of pixels that are black
in every test image have no effect. So this module compares values: logits as well as probabilities, since
saturated probabilities hide an error of 5 % in the logits; and on noise as well as on images (see
`parity_cases`). All inputs are computed in large batches, a sample of them in batches of 1 and of 7 too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import onnx

from mnist_jax.config.networks import PIXEL_SCALE, Spec
from mnist_jax.errors import InputError, ModelError
from mnist_jax.nn.model import CHUNK_SIZE
from mnist_jax.types import Images, Params
from mnist_onnx.external import check_sizes
from mnist_onnx.parity_cases import (
    TOLERANCE,
    ParityCase,
    checked,
    in_chunks,
    noise,
    parity_case,
    top1_mismatch,
)
from mnist_onnx.saturation import saturation_warning
from mnist_onnx.session import open_session, run


class Parity(NamedTuple):
    """The result of comparing an ONNX file with a JAX model.

    Attributes:
        passed: whether every difference is within tolerance and no predicted class differs.
        max_abs_difference: the largest difference of the file's outputs on the images.
        max_logit_difference: the largest difference of logits, on images and noise, relative to the scale of
            their row, 1 + the largest |logit|.
        disagreements: the number of inputs, images and noise, with another predicted class, without ties.
        n: the number of images compared.
        noise: the number of further inputs compared: noise, and images with added noise.
        warning: why the outputs may differ on another machine; empty if no reason is known.

    Examples:
        >>> import jax, mnist_jax, mnist_onnx, numpy
        >>> spec = mnist_jax.MLP((16,), ("relu",))
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> images = numpy.zeros((1, 28, 28), numpy.uint8)
        >>> result = mnist_onnx.check_parity(spec, params, mnist_onnx.to_onnx(spec, params), images)
        >>> result.n, result.noise, result.warning
        (1, 1280, '')
    """

    passed: bool
    max_abs_difference: float
    max_logit_difference: float
    disagreements: int
    n: int
    noise: int
    warning: str = ""


def check_parity(
    spec: Spec, params: Params, model: bytes | onnx.ModelProto, images: Images, *, seed: int = 0
) -> Parity:
    """Compares an ONNX file with `apply` on images and on noise, in ONNX Runtime on the CPU.

    Args:
        spec: the network.
        params: its parameters.
        model: the model, or the bytes of its file.
        images: uint8 `[n, 28, 28]`. Use the whole test set for a proof that can be trusted.
        seed: the seed of the noise.

    Returns:
        A `Parity`; its `passed` says whether the file equals the JAX model.

    Raises:
        ModelError: the file is damaged or not ONNX, `to_onnx` did not build it, or its network has another
            output.
        SpecError: the parameters do not match the spec.
        InputError: the images are not uint8 `[n, 28, 28]`, there are none, or the seed is invalid.

    Examples:
        >>> import jax, mnist_jax, mnist_onnx, numpy
        >>> spec = mnist_jax.MLP((16,), ("relu",))
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> images = numpy.zeros((1, 28, 28), numpy.uint8)
        >>> mnist_onnx.check_parity(spec, params, mnist_onnx.to_onnx(spec, params), images).passed
        True
        >>> other = mnist_onnx.to_onnx(spec, mnist_jax.init(spec, jax.random.key(1)))
        >>> mnist_onnx.check_parity(spec, params, other, images).passed
        False
    """
    data, images = checked(model, images, seed)
    case = parity_case(spec, params, data, images, seed=seed)
    return _compare(case, data, *_with_logits(data))


def check_function_parity(
    function: Callable[[Images], Any], model: bytes | onnx.ModelProto, images: Images, *, seed: int = 0
) -> Parity:
    """Compares an ONNX file with any JAX function, as `check_parity` does with a spec and its parameters.

    Args:
        function: maps images, in the shape and dtype that the file takes, to float32 `[batch, classes]`.
            It is jitted.
        model: the model, or the bytes of its file. It takes uint8, or float32 pixels in 0..1, of shape
            `[batch, 28, 28]` or `[batch, 1, 28, 28]`.
        images: uint8 `[n, 28, 28]`.
        seed: the seed of the noise.

    Returns:
        A `Parity`; its `passed` says whether the file equals the function.

    Raises:
        ModelError: the file is damaged or not ONNX, or has other inputs or outputs.
        InputError: the images are not uint8 `[n, 28, 28]`, there are none, the seed is invalid, or `function`
            is not a function with such an output.

    Examples:
        >>> import jax, mnist_jax, mnist_onnx, numpy
        >>> spec = mnist_jax.MLP((16,), ("relu",))
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> model = mnist_onnx.to_onnx(spec, params, output="logits")
        >>> images = numpy.zeros((1, 28, 28), numpy.uint8)
        >>> def logits(images):
        ...     return mnist_jax.apply(spec, params, images[:, 0])
        >>> mnist_onnx.check_function_parity(logits, model, images).passed
        True
    """
    data, images = checked(model, images, seed)
    check_sizes(data)
    session = open_session(data)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in ("tensor(uint8)", "tensor(float)"):
        raise ModelError("the model must take one array, uint8 or float32, and output one; got another")
    pixels = np.concatenate([images, noise(images, seed)])
    if inputs[0].type == "tensor(float)":
        pixels = pixels * np.float32(PIXEL_SCALE)
    if len(inputs[0].shape) == 4:
        pixels = pixels[:, None]
    if not callable(function):
        raise InputError(f"check_function_parity takes a function of images; got {function!r}")
    result = jax.eval_shape(function, jax.ShapeDtypeStruct(pixels.shape, pixels.dtype))
    shape: tuple[int, ...] = getattr(result, "shape", ())
    classes = outputs[0].shape[-1] if outputs[0].shape else "classes"
    fits = len(shape) == 2 and shape[0] == len(pixels) and result.dtype == np.float32
    if not fits or (isinstance(classes, int) and shape[1] != classes):
        raise InputError(f"the function must return float32 [batch, {classes}]; got {result}")
    expected = in_chunks(jax.jit(function), pixels)
    scale = 1 + np.abs(expected).max(axis=-1, keepdims=True)
    case = ParityCase(pixels, expected, TOLERANCE * scale, expected, scale, len(images))
    return _compare(case, data, session, [outputs[0].name, outputs[0].name], inputs[0].name)


def _compare(
    case: ParityCase, data: bytes, session: object, outputs: list[str], name: str = "images"
) -> Parity:
    """Runs the file on all inputs, then on a sample in batches of 7 and of 1, and compares its outputs."""
    pixels, logits, scale = case.pixels, case.logits, case.scale
    difference, logit_difference = np.zeros_like(logits), np.zeros_like(logits)
    mismatch, passed = np.zeros(len(pixels), bool), True
    got, got_logits = np.zeros_like(logits), np.zeros_like(logits)
    every, sample = np.arange(len(pixels)), case.sample()
    for batch_size, rows in ((CHUNK_SIZE, every), (7, sample), (1, sample)):
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            results = run(session, {name: pixels[batch]}, outputs, num_classes=logits.shape[1])
            got[batch], got_logits[batch] = results
        batch_passed, batch_difference, batch_mismatch = case.compare(got)
        passed, mismatch = passed and batch_passed, mismatch | batch_mismatch
        difference = np.maximum(difference, batch_difference)
        logit_difference = np.maximum(logit_difference, np.abs(got_logits - logits) / scale)
        if case.slack is None:
            mismatch |= top1_mismatch(logits, got_logits, TOLERANCE * scale)
    if case.slack is None:
        passed = passed and bool((logit_difference <= TOLERANCE).all()) and not mismatch.any()
    return Parity(
        passed=passed,
        max_abs_difference=float(difference[: case.n].max()),
        max_logit_difference=float(logit_difference.max()),
        disagreements=int(mismatch.sum()),
        n=case.n,
        noise=len(pixels) - case.n,
        warning=saturation_warning(onnx.load_from_string(data)),
    )


def _with_logits(data: bytes) -> tuple[object, list[str]]:
    """A session on the file with its logits as a second output, and the names of both outputs."""
    model = onnx.load_from_string(data)
    (output,) = (value.name for value in model.graph.output)
    if not any("logits" in node.output for node in model.graph.node):
        raise ModelError("the model must have a value named logits, as to_onnx names it; got none")
    if output != "logits":
        logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)
        model.graph.output.append(logits)
    return open_session(model.SerializeToString()), [output, "logits"]
