"""The proof that an ONNX file computes what JAX computes.

Comparing answers on test images proves little: without its output bias a network changes 4 answers
in 10,000, scaled by 1/256 instead of 1/255 none, and weights of pixels that are black in every test
image don't matter at all. So numbers are compared: logits as well as probabilities, since saturated
probabilities hide an error of 5 % in the logits; one image alone, in sevens and all at once; and not on
images alone, but on noise too (see `questions`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import onnx

from mnist_jax.errors import InputError, ModelError
from mnist_jax.networks import CLASSES, Spec
from mnist_jax.types import Images, Params
from mnist_onnx.foreign import check_sizes
from mnist_onnx.questions import TOLERANCE, Question, checked, in_chunks, noise, other_answer, question
from mnist_onnx.saturation import saturation_warning
from mnist_onnx.sessions import open_session, run


class Parity(NamedTuple):
    """How far an ONNX file is from the JAX model.

    Attributes:
        passed: every difference is within tolerance and no answer differs.
        max_abs_difference: the largest on what the file puts out for the images.
        max_logit_difference: the largest on logits, noise included, as a share of the picture's scale.
        disagreements: images, noise included, with another answer, ties left out.
        n: images compared.
        noise: pictures compared besides: of noise, and images with noise strewn over them.
        warning: why the file may answer otherwise on another machine; empty where nothing is known.
    """

    passed: bool
    max_abs_difference: float
    max_logit_difference: float
    disagreements: int
    n: int
    noise: int
    warning: str = ""


def parity(
    spec: Spec, params: Params, model: bytes | onnx.ModelProto, images: Images, *, seed: int = 0
) -> Parity:
    """Compares an ONNX file with `apply` on images and on noise, in ONNX Runtime on the CPU.

    Args:
        spec: the network.
        params: its parameters.
        model: the file's bytes, or the model.
        images: uint8 `[n, 28, 28]`: the whole test set, for a proof that can be trusted.
        seed: of the noise.

    Raises:
        ModelError: the file is damaged, not ONNX, not one of ours, or of a network with another output.
        SpecError: the parameters are not the spec's.
        InputError: the images are not uint8 `[n, 28, 28]`, or none.
    """
    data, images = checked(model, images, seed)
    asked = question(spec, params, data, images, seed=seed)
    return _ask(asked, data, *_with_logits(data))


def compare(
    function: Callable[[Images], Any], model: bytes | onnx.ModelProto, images: Images, *, seed: int = 0
) -> Parity:
    """Compares an ONNX file with any function of JAX, as `parity` does with our networks.

    Args:
        function: from pictures, as the file takes them, to float32 `[batch, 10]`; it is jitted.
        model: the file's bytes, or the model. Its input: uint8, or float32 for pixels in 0..1; `[batch, 28,
            28]` or `[batch, 1, 28, 28]`.
        images: uint8 `[n, 28, 28]`.
        seed: of the noise.

    Raises:
        ModelError: the file is damaged, not ONNX, or takes or gives something else.
        InputError: the images are not uint8 `[n, 28, 28]`, or none; or a bad seed.
    """
    data, images = checked(model, images, seed)
    check_sizes(data)
    session = open_session(data)
    given, out = session.get_inputs(), session.get_outputs()
    if len(given) != 1 or len(out) != 1 or given[0].type not in ("tensor(uint8)", "tensor(float)"):
        raise ModelError("the model must take one array, uint8 or float32, and put out one; got another")
    pixels = np.concatenate([images, noise(images, seed)])
    if given[0].type == "tensor(float)":
        pixels = pixels * np.float32(1 / 255)
    if len(given[0].shape) == 4:
        pixels = pixels[:, None]
    if not callable(function):
        raise InputError(f"compare takes a function of pictures; got {function!r}")
    gives = jax.eval_shape(function, jax.ShapeDtypeStruct(pixels.shape, pixels.dtype))
    if getattr(gives, "shape", None) != (len(pixels), CLASSES) or gives.dtype != np.float32:
        raise InputError(f"the function must give float32 [batch, {CLASSES}]; got {gives}")
    answers = in_chunks(jax.jit(function), pixels)
    scale = 1 + np.abs(answers).max(axis=-1, keepdims=True)
    asked = Question(pixels, answers, TOLERANCE * scale, answers, scale, len(images))
    return _ask(asked, data, session, [out[0].name, out[0].name], given[0].name)


def _ask(asked: Question, data: bytes, session: object, outputs: list[str], name: str = "images") -> Parity:
    """Asks for all answers, one picture at a time, in sevens and all at once."""
    pixels, logits, scale = asked.pixels, asked.logits, asked.scale
    off, off_logits = np.zeros_like(logits), np.zeros_like(logits)
    other, passed = np.zeros(len(pixels), bool), True
    for batch in (1, 7, len(pixels)):
        cuts = (pixels[i : i + batch] for i in range(0, len(pixels), batch))
        parts = [run(session, {name: cut}, outputs) for cut in cuts]
        found, found_logits = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
        good, now_off, now_other = asked.judge(found)
        passed, other, off = passed and good, other | now_other, np.maximum(off, now_off)
        off_logits = np.maximum(off_logits, np.abs(found_logits - logits) / scale)
        if asked.slack is None:
            other |= other_answer(logits, found_logits, TOLERANCE * scale)
    if asked.slack is None:
        passed = passed and bool((off_logits <= TOLERANCE).all()) and not other.any()
    return Parity(
        passed=passed,
        max_abs_difference=float(off[: asked.n].max()),
        max_logit_difference=float(off_logits.max()),
        disagreements=int(other.sum()),
        n=asked.n,
        noise=len(pixels) - asked.n,
        warning=saturation_warning(onnx.load_from_string(data)),
    )


def _with_logits(data: bytes) -> tuple[object, list[str]]:
    """A fresh session on the file, and the names of its own output and, from the same graph, its logits."""
    model = onnx.load_from_string(data)
    (output,) = (value.name for value in model.graph.output)
    if not any("logits" in node.output for node in model.graph.node):
        raise ModelError("the model must have a value named logits, as to_onnx gives it; got none")
    if output != "logits":
        logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)
        model.graph.output.append(logits)
    return open_session(model.SerializeToString()), [output, "logits"]
