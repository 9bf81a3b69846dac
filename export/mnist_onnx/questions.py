"""What an ONNX file is asked, and what JAX answers: the questions of the proof.

Pictures of noise light every pixel, but each holds most hidden units always on or always off; images with ink
strewn over them light every pixel while the units work as they do on images.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import onnx

from mnist_jax.checks import as_images
from mnist_jax.errors import InputError, ModelError
from mnist_jax.models import apply, probabilities
from mnist_jax.networks import Spec
from mnist_jax.types import Images, Params
from mnist_onnx.classifier import read_metadata
from mnist_onnx.graph import Input, Output, checked_params, to_onnx
from mnist_onnx.limits import check_ours
from mnist_onnx.quantize import is_static, rounded
from mnist_onnx.sessions import open_session

# Of logits, as a share of the picture's scale, which is 1 + its largest |logit|: each is a sum of terms of
# that size, and float32 leaves up to 1e-6 of it in the smallest. Where large terms cancel, as in networks
# that were trained at far too high a rate, the scale is larger: a file may always be as far off as JAX
# itself is with each parameter off by this share (a backward error; Higham 2002, section 1.5).
# Of probabilities, absolute, where the scale is up to 10; past that, a tenth of what the logits may be off.
TOLERANCE = 1e-5
NOISE = 256
STREWN = 1024
CHUNK = 1000
SLACK = 0.01  # of the images may get another answer from a file that rounds activations


class Question(NamedTuple):
    """Pictures for a file, and what JAX answers to them.

    Attributes:
        pixels: as the file takes them, `[m, 1, 28, 28]`: the images, then the noise.
        answers: float32 `[m, 10]`, what the file must put out.
        limit: `[m, 1]`, how far it may be off.
        logits: float32 `[m, 10]`.
        scale: `[m, 1]`, what differences of logits are measured by.
        n: how many of the pictures are images.
        slack: None where numbers are compared; for a file that rounds activations, how many of the images
            may get another answer, and nothing else is asked.
    """

    pixels: np.ndarray
    answers: np.ndarray
    limit: np.ndarray
    logits: np.ndarray
    scale: np.ndarray
    n: int
    slack: int | None = None

    def judge(self, found: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray]:
        """Whether a file's answers pass; how far each is off; which pictures got another one."""
        off = np.abs(found - self.answers)
        nothing = np.isnan(off).any(axis=-1)
        other = other_answer(self.answers, found, self.limit) | nothing
        if self.slack is not None:
            return bool(not nothing.any() and other[: self.n].sum() <= self.slack), off, other
        return bool((off <= self.limit).all() and not other.any()), off, other


def checked(model: object, images: Images, seed: int) -> tuple[bytes, np.ndarray]:
    """The file's bytes and the images, once all that is asked is what it must be."""
    images = np.asarray(as_images(images))
    if images.dtype != np.uint8 or not len(images):
        raise InputError(
            f"parity is proven on uint8 images, at least one; got {len(images)} of {images.dtype}"
        )
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0; got {seed!r}")
    if not isinstance(model, bytes | onnx.ModelProto):
        raise ModelError(f"parity takes a model or the bytes of a file; got {model!r}")
    return model if isinstance(model, bytes) else model.SerializeToString(), images


def question(spec: Spec, params: Params, data: bytes, images: Images, *, seed: int = 0) -> Question:
    """What to ask a file, by what it says of itself, and what it must answer.

    If its weights are rounded, that is what JAX answers with those weights.

    Raises:
        ModelError: the file is of a network with another output.
        SpecError: the parameters are not the spec's.
        InputError: as `parity`.
    """
    _, images = checked(data, images, seed)
    checked_params(spec, params)
    check_ours(data)
    metadata = read_metadata(open_session(data))
    if metadata["network_output"] != spec.output:
        raise ModelError(f"the model must be of a {spec.output} network; got {metadata['network_output']}")
    precision, slack = metadata["precision"], None
    if precision == "int8-static":
        taken: Input = "uint8" if metadata["input_range"] == "0..255" else "float32"
        given: Output = "logits" if metadata["output"] == "logits" else "probabilities"
        original = to_onnx(spec, params, input=taken, output=given)
        if is_static(onnx.load_from_string(data), original):  # and does not only say so
            slack = int(SLACK * len(images))
    else:
        params = rounded(spec, params, precision)
    inputs = np.concatenate([images, noise(images, seed)])
    logits, answers = _reference(spec, params, inputs)
    moved = np.abs(_reference(spec, _moved(params, seed), inputs)[0] - logits)
    scale = np.maximum(1 + np.abs(logits), moved / TOLERANCE).max(axis=-1, keepdims=True)
    if metadata["output"] == "logits":
        answers, limit = logits, TOLERANCE * scale
    else:
        limit = TOLERANCE * np.maximum(1, scale / 10)
    pixels = inputs if metadata["input_range"] == "0..255" else inputs * np.float32(1 / 255)
    return Question(pixels[:, None], answers, limit, logits, scale, len(images), slack)


def noise(images: np.ndarray, seed: int) -> np.ndarray:
    """Pictures of even noise, and images with 2 to 30 % of their pixels replaced by noise."""
    rng = np.random.default_rng(seed)
    even = rng.integers(0, 256, (NOISE, 28, 28), np.uint8)
    strewn = images[rng.integers(0, len(images), STREWN)]
    where = rng.random(strewn.shape) < rng.uniform(0.02, 0.3, (STREWN, 1, 1))
    return np.concatenate([even, np.where(where, rng.integers(0, 256, strewn.shape, np.uint8), strewn)])


def _moved(params: Params, seed: int) -> Params:
    """Each parameter up or down by its share of tolerance."""
    rng = np.random.default_rng(seed)
    moved: Params = jax.tree.map(
        lambda value: value * np.float32(1 + TOLERANCE * rng.choice([-1, 1], np.shape(value))), params
    )
    return moved


def _reference(spec: Spec, params: Params, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """JAX's logits and answers."""
    logits_of = jax.jit(apply, static_argnums=0)
    logits = in_chunks(functools.partial(logits_of, spec, params), images)
    return logits, np.asarray(probabilities(spec.output, jax.numpy.asarray(logits)))


def in_chunks(function: Callable[..., Any], pictures: np.ndarray) -> np.ndarray:
    """A function's answers to all pictures, as exact as the device can."""
    # On GPUs and TPUs a float32 product is rounded to fewer bits unless it is asked not to be.
    with jax.default_matmul_precision("highest"):
        parts = [function(pictures[i : i + CHUNK]) for i in range(0, len(pictures), CHUNK)]
    return np.concatenate([np.asarray(part) for part in parts])


def other_answer(expected: np.ndarray, found: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Where the largest of ten is another one, unless `expected` had both alike."""
    rows = np.arange(len(expected))
    best, chosen = expected[rows, expected.argmax(-1)], expected[rows, found.argmax(-1)]
    return np.asarray(best - chosen > 2 * limit[:, 0])
