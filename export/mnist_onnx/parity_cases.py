"""Inputs for a parity check, and JAX's outputs for them.

Uniform noise covers every pixel, but keeps most hidden units either always on or always off. Images with
added noise cover every pixel while the hidden units behave as on images. A parity check uses both.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import onnx

from mnist_jax.config.input_checks import as_images
from mnist_jax.config.networks import IMAGE_SHAPE, PIXEL_SCALE, Spec
from mnist_jax.errors import InputError, ModelError
from mnist_jax.nn.model import apply, probabilities, rows_in_chunks
from mnist_jax.types import Images, Params
from mnist_onnx.classifier import read_metadata
from mnist_onnx.export import Input, Output, checked_params, to_onnx
from mnist_onnx.graph_limits import check_ours
from mnist_onnx.quantize import is_int8_static, rounded
from mnist_onnx.session import open_session

# For logits: relative to the scale of their row, 1 + the largest |logit|. Each logit is a sum of terms of
# that size, and float32 rounding leaves an error of up to 1e-6 of it. Where large terms cancel, as after
# training at far too high a learning rate, the scale is larger: the error may always be as large as that of
# JAX with each parameter perturbed by this share (a backward error; Higham 2002, section 1.5).
# For probabilities: absolute where the scale is up to 10; beyond, a tenth of the tolerance of the logits.
TOLERANCE = 1e-5
NUM_NOISE_IMAGES = 256
NUM_NOISY_IMAGES = 1024
SAMPLE_SIZE = 200  # inputs that are computed in small batches too
MAX_FLIP_RATE = 0.01  # share of images whose predicted class may change in a file that rounds activations


class ParityCase(NamedTuple):
    """Inputs for a file, and JAX's outputs for them.

    Attributes:
        pixels: `[m, 1, 28, 28]` in the dtype that the file takes: `n` images, then noise.
        answers: float32 `[m, classes]`, the expected outputs.
        limit: `[m, 1]`, the largest allowed difference from `answers`.
        logits: float32 `[m, classes]`, the expected logits.
        scale: `[m, 1]`, the scale that differences of logits are relative to.
        n: the number of images.
        slack: None if values are compared. For a file that rounds activations, the number of images whose
            predicted class may differ; only predicted classes are compared then.
    """

    pixels: np.ndarray
    answers: np.ndarray
    limit: np.ndarray
    logits: np.ndarray
    scale: np.ndarray
    n: int
    slack: int | None = None

    def sample(self) -> np.ndarray:
        """Rows of inputs of every kind, enough of them to exceed the slack where each is wrong."""
        count = min(len(self.pixels), max(SAMPLE_SIZE, 3 * (self.slack or 0)))
        return np.linspace(0, len(self.pixels) - 1, count).astype(int)

    def compare(self, outputs: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray]:
        """Compares a file's outputs, float32 `[m, classes]`, with the expected ones.

        Returns:
            Whether they pass, the absolute differences `[m, classes]`, and where predicted classes differ
            `[m]`.
        """
        difference = np.abs(outputs - self.answers)
        nan = np.isnan(difference).any(axis=-1)
        mismatch = top1_mismatch(self.answers, outputs, self.limit) | nan
        if self.slack is not None:
            passed = not nan.any() and mismatch[: self.n].sum() <= self.slack
        else:
            passed = (difference <= self.limit).all() and not mismatch.any()
        return bool(passed), difference, mismatch


def checked(model: object, images: Images, seed: int) -> tuple[bytes, np.ndarray]:
    """Checks the arguments of a parity check.

    Returns:
        The bytes of the file, and the images as a NumPy array.

    Raises:
        InputError: the images are not uint8 `[n, 28, 28]`, there are none, or the seed is invalid.
        ModelError: `model` is neither a model nor bytes.
    """
    images = np.asarray(as_images(images))
    if images.dtype != np.uint8 or not len(images):
        raise InputError(
            f"parity is checked on uint8 images, at least one; got {len(images)} of {images.dtype}"
        )
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0; got {seed!r}")
    if not isinstance(model, bytes | onnx.ModelProto):
        raise ModelError(f"parity takes a model or the bytes of a file; got {model!r}")
    return model if isinstance(model, bytes) else model.SerializeToString(), images


def parity_case(spec: Spec, params: Params, data: bytes, images: Images, *, seed: int = 0) -> ParityCase:
    """Prepares the inputs for a file, by its metadata, and computes the expected outputs in JAX.

    If the weights in the file are rounded, JAX computes with the rounded weights.

    Args:
        spec: the network.
        params: its parameters.
        data: the bytes of the file.
        images: uint8 `[n, 28, 28]`.
        seed: the seed of the noise.

    Raises:
        ModelError: the file is not one that `to_onnx` or `quantize` built, or its network has another output.
        SpecError: the parameters do not match the spec.
        InputError: as for `check_parity`.
    """
    _, images = checked(data, images, seed)
    checked_params(spec, params)
    check_ours(data)
    metadata = read_metadata(open_session(data))
    if metadata["network_output"] != spec.output:
        raise ModelError(f"the model must be of a {spec.output} network; got {metadata['network_output']}")
    if len(json.loads(metadata["labels"])) != spec.num_classes:
        raise ModelError(
            f"the model must have {spec.num_classes} classes; its labels are {metadata['labels']}"
        )
    precision, slack = metadata["precision"], None
    if precision == "int8-static":
        input_: Input = "uint8" if metadata["input_range"] == "0..255" else "float32"
        output: Output = "logits" if metadata["output"] == "logits" else "probabilities"
        original = to_onnx(spec, params, input=input_, output=output)
        if is_int8_static(onnx.load_from_string(data), original):  # the metadata alone prove nothing
            slack = int(MAX_FLIP_RATE * len(images))
    else:
        params = rounded(spec, params, precision)
    inputs = np.concatenate([images, noise(images, seed)])
    logits, answers = _reference(spec, params, inputs)
    sensitivity = np.abs(_reference(spec, _perturbed(params, seed), inputs)[0] - logits)
    scale = np.maximum(1 + np.abs(logits), sensitivity / TOLERANCE).max(axis=-1, keepdims=True)
    if metadata["output"] == "logits":
        answers, limit = logits, TOLERANCE * scale
    else:
        limit = TOLERANCE * np.maximum(1, scale / 10)
    pixels = inputs if metadata["input_range"] == "0..255" else inputs * np.float32(PIXEL_SCALE)
    return ParityCase(pixels[:, None], answers, limit, logits, scale, len(images), slack)


def noise(images: np.ndarray, seed: int) -> np.ndarray:
    """Makes images of uniform noise, and images with 2 to 30 % of their pixels replaced by noise.

    Args:
        images: uint8 `[n, 28, 28]`.
        seed: the seed of the noise.

    Returns:
        uint8 `[NUM_NOISE_IMAGES + NUM_NOISY_IMAGES, 28, 28]`.
    """
    rng = np.random.default_rng(seed)
    uniform = rng.integers(0, 256, (NUM_NOISE_IMAGES, *IMAGE_SHAPE), np.uint8)
    noisy = images[rng.integers(0, len(images), NUM_NOISY_IMAGES)]
    replaced = rng.random(noisy.shape) < rng.uniform(0.02, 0.3, (NUM_NOISY_IMAGES, 1, 1))
    return np.concatenate([uniform, np.where(replaced, rng.integers(0, 256, noisy.shape, np.uint8), noisy)])


def _perturbed(params: Params, seed: int) -> Params:
    """Changes each parameter by plus or minus its share of the tolerance."""
    rng = np.random.default_rng(seed)
    perturbed: Params = jax.tree.map(
        lambda value: value * np.float32(1 + TOLERANCE * rng.choice([-1, 1], np.shape(value))), params
    )
    return perturbed


def _reference(spec: Spec, params: Params, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """JAX's logits and probabilities, each float32 `[batch, classes]`."""
    logits_of = jax.jit(apply, static_argnums=0)
    logits = in_chunks(functools.partial(logits_of, spec, params), images)
    return logits, np.asarray(probabilities(spec.output, jax.numpy.asarray(logits)))


def in_chunks(function: Callable[..., Any], images: np.ndarray) -> np.ndarray:
    """Applies a function to images in chunks, at the highest precision of the device."""
    # By default, GPUs and TPUs round float32 operands of a matmul to fewer bits.
    with jax.default_matmul_precision("highest"):
        parts = [np.asarray(function(images[rows])) for rows in rows_in_chunks(len(images))]
    return np.concatenate(parts)[: len(images)]


def top1_mismatch(expected: np.ndarray, outputs: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Where the predicted class differs, unless it is a tie in `expected`.

    Args:
        expected: `[batch, classes]`.
        outputs: `[batch, classes]`.
        limit: `[batch, 1]`; two values closer than twice this are a tie.

    Returns:
        bool `[batch]`.
    """
    rows = np.arange(len(expected))
    best, chosen = expected[rows, expected.argmax(-1)], expected[rows, outputs.argmax(-1)]
    return np.asarray(best - chosen > 2 * limit[:, 0])
