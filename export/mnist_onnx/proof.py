"""The proof that an ONNX file computes what JAX computes.

Comparing answers on test images proves little: without its output bias a network changes 4 answers
in 10,000, scaled by 1/256 instead of 1/255 none, and weights of pixels that are black in every test
image don't matter at all. So numbers are compared, and on noise as well as on images; logits as well as
probabilities, since saturated probabilities hide an error of 5 % in the logits; alone, in sevens and
all at once.
"""

from typing import NamedTuple

import jax
import numpy as np
import onnx

from mnist_jax.checks import check_images
from mnist_jax.errors import InputError, ModelError
from mnist_jax.models import apply, probabilities
from mnist_jax.specs import MLP
from mnist_jax.types import Images, Params
from mnist_onnx.classifier import open_session, read_metadata

# Of outputs on images, absolute; of logits, and of outputs on noise, as a share of 1 + the image's largest
# |logit|: each logit is a sum of terms of that size, so float32 leaves that much in the smallest of them.
# (Two right implementations differ by 1e-6 of it; noise drives logits past 100.)
TOLERANCE = 1e-5
NOISE = 256
CHUNK = 1000


class Parity(NamedTuple):
    """How far an ONNX file is from the JAX model.

    Attributes:
        passed: every difference is within tolerance and no answer differs.
        max_abs_difference: the largest on what the file puts out for the images.
        max_logit_difference: the largest on logits, noise included, as a share of 1 + the largest |logit|.
        disagreements: images, noise included, with another answer, ties left out.
        n: images compared; there were `noise` pictures of noise besides.
        noise: how many.
    """

    passed: bool
    max_abs_difference: float
    max_logit_difference: float
    disagreements: int
    n: int
    noise: int


def parity(
    spec: MLP, params: Params, model: bytes | onnx.ModelProto, images: Images, *, seed: int = 0
) -> Parity:
    """Compares an ONNX file with `apply` on images and on noise, in ONNX Runtime on the CPU.

    Args:
        spec: the network.
        params: its parameters.
        model: the file's bytes, or the model.
        images: uint8 `[n, 28, 28]`: the whole test set, for a proof that can be trusted.
        seed: of the noise.

    Raises:
        ModelError: the file is damaged, not ONNX, or not one of ours.
        InputError: the images are not uint8 `[n, 28, 28]`, or none.
    """
    check_images(images)
    if images.dtype != np.uint8 or not len(images):
        raise InputError(
            f"parity is proven on uint8 images, at least one; got {len(images)} of {images.dtype}"
        )
    data = model if isinstance(model, bytes) else model.SerializeToString()
    noise = np.random.default_rng(seed).integers(0, 256, (NOISE, 28, 28), np.uint8)
    inputs = np.concatenate([np.asarray(images), noise])
    logits, answers = _reference(spec, params, inputs)

    metadata = read_metadata(open_session(data), "the model")
    if metadata["output"] == "logits":
        answers = logits
    pixels = inputs if metadata["input_range"] == "0..255" else inputs * np.float32(1 / 255)

    size = 1 + np.abs(logits).max(axis=-1, keepdims=True)
    limit = np.where(np.arange(len(inputs)) < len(images), 1, size[:, 0])[:, None] * TOLERANCE
    if metadata["output"] == "logits":
        limit = size * TOLERANCE
    off, off_logits = np.zeros_like(answers), np.zeros_like(logits)
    other = np.zeros(len(inputs), bool)
    for batch in (1, 7, len(inputs)):
        found, found_logits = _run(data, pixels, batch)
        off = np.maximum(off, np.abs(found - answers))  # NaN stays NaN, and fails below
        off_logits = np.maximum(off_logits, np.abs(found_logits - logits) / size)
        other |= _other_answer(logits, found_logits) | _other_answer(answers, found)
    passed = (off <= limit).all() and (off_logits <= TOLERANCE).all() and not other.any()
    return Parity(
        passed=bool(passed),
        max_abs_difference=float(off[: len(images)].max()),
        max_logit_difference=float(off_logits.max()),
        disagreements=int(other.sum()),
        n=len(images),
        noise=NOISE,
    )


def _reference(spec: MLP, params: Params, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """JAX's logits and answers."""
    run = jax.jit(apply, static_argnums=0)
    # On GPUs and TPUs a float32 product is rounded to fewer bits unless it is asked not to be.
    with jax.default_matmul_precision("highest"):
        chunks = [run(spec, params, images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    logits = jax.numpy.concatenate(chunks)
    return np.asarray(logits), np.asarray(probabilities(spec.output, logits))


def _run(data: bytes, pixels: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """The file's own output and, from the same graph, its logits; in batches of that size."""
    model = onnx.load_from_string(data)
    outputs = [value.name for value in model.graph.output]
    if len(outputs) != 1 or not any("logits" in node.output for node in model.graph.node):
        raise ModelError(f"the model must have one output, and a value named logits; got {outputs}")
    if outputs != ["logits"]:
        model.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    session = open_session(model.SerializeToString())
    parts = [
        session.run([outputs[0], "logits"], {"images": pixels[i : i + batch, None]})
        for i in range(0, len(pixels), batch)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _other_answer(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Where the largest of ten is another one, unless `expected` had both alike."""
    rows = np.arange(len(expected))
    best, chosen = expected[rows, expected.argmax(-1)], expected[rows, found.argmax(-1)]
    return np.asarray(best - chosen > 2 * TOLERANCE * (1 + np.abs(best)))
