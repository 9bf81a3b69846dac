"""Answers from an ONNX file, with NumPy and ONNX Runtime alone."""

import json
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np

from mnist_jax.checks import LABELS, are_labels, as_images, check_pixels
from mnist_jax.errors import InputError, ModelError
from mnist_jax.networks import IMAGE_SHAPE
from mnist_jax.settings import shorten
from mnist_jax.sources import DIGITS
from mnist_onnx.foreign import Foreign, check_sizes, parse_range
from mnist_onnx.limits import check_ours
from mnist_onnx.sessions import (
    CPU,
    Provider,
    check_probabilities,
    metadata_of,
    open_session,
    probabilities,
    read_bytes,
    run,
)

# What each entry of the metadata that changes answers may say.
KNOWN = {
    "format": ("1",),
    "input_range": ("0..255", "0..1"),
    "network_output": ("softmax", "sigmoid"),
    "output": ("probabilities", "logits"),
    "precision": ("float32", "float16", "int8", "int8-static"),
}
INPUT_TYPES = {"0..255": "tensor(uint8)", "0..1": "tensor(float)"}


class Classifier:
    """A digit classifier in an ONNX file: one of ours, or another whose pixels you know.

    Attributes:
        labels: the names of the ten classes.
        metadata: all that the file says of itself.

    Args:
        path: of the file.
        input_range: for a file that is not ours, and so does not say what pixels it takes: what it wants for
            black and for white, such as `0..1`, `0..255`, or `-0.4242..2.8215`.
        providers: what computes, as ONNX Runtime names it, in order of preference, such as
            `["CUDAExecutionProvider"]`; or pairs of a name and a dict of options. Default: the CPU alone.
        session_options: an `onnxruntime.SessionOptions`, such as for a number of threads.

    Raises:
        ModelError: the file is missing, damaged or not ONNX; it is not ours and no range is given, or ours
            and one is; or it takes no pictures of 28x28.
        InputError: the range is none.
        RuntimeUnavailableError: a provider is not on this machine; ONNX Runtime would take the CPU instead.
        NotInstalledError: a file with an input range needs the package onnx, to see what its graph ends with.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        input_range: str | None = None,
        providers: Sequence[Provider] = CPU,
        session_options: Any = None,
    ) -> None:
        if not isinstance(path, str | PathLike):
            raise ModelError(f"a Classifier is made from a file's path; got {type(path).__name__}")
        if input_range is not None:
            parse_range(input_range)
        self._name = fspath(path)
        data = read_bytes(self._name)
        check = check_ours if input_range is None else check_sizes
        check(data, self._name)  # while nothing has been done that the file says
        self._session = open_session(data, self._name, providers, session_options)
        self._foreign: Foreign | None = None
        if input_range is None:
            self.metadata = read_metadata(self._session, self._name)
            self.labels: list[str] = json.loads(self.metadata["labels"])
        else:
            self._foreign = Foreign(self._session, data, input_range, self._name)
            self.metadata = metadata_of(self._session, self._name)
            self.labels = list(DIGITS)

    def predict(self, images: Any) -> np.ndarray:
        """What the network answers, float32 `[batch, 10]`: the class is its argmax.

        A softmax network's ten numbers add up to one; a sigmoid network's need not.

        Args:
            images: `[batch, 28, 28]`, white on black, uint8 0..255, or float32 0..1 where the file takes
                that. (uint8 images are scaled for a float32 file.)

        Raises:
            InputError: another shape, dtype or range.
            ModelError: the file's graph fails on them, or does not give what it says.
        """
        images = np.asarray(as_images(images))
        check_pixels(images)
        if self._foreign is not None:
            return self._foreign.predict(images)
        if self.metadata["input_range"] == "0..255" and images.dtype != np.uint8:
            raise InputError(
                "this file takes uint8 images, 0 to 255; got float32; pass the pixels as they are, "
                "or export with --input float32"
            )
        if self.metadata["input_range"] == "0..1" and images.dtype == np.uint8:
            images = images * np.float32(1 / 255)
        (answer,) = run(self._session, {"images": images[:, None]}, None, self._name)
        if not np.isfinite(answer).all():
            raise ModelError(f"{self._name} must put out finite numbers; got others")
        kind = self.metadata["network_output"]
        if self.metadata["output"] == "logits":
            return probabilities(answer, kind)
        check_probabilities(answer, kind, self._name)
        return answer


def read_metadata(session: Any, name: str = "the model") -> dict[str, str]:
    """What one of our files says of itself.

    Raises:
        ModelError: the file is not one of ours, or says what cannot be.
    """
    metadata = metadata_of(session, name)
    if missing := sorted({*KNOWN, "labels"} - set(metadata)):
        raise ModelError(
            f"{name} must be a file written by mnist-jax, which says what pixels it takes; "
            f"its metadata lacks {', '.join(missing)}; if you know the file, say so by an input range"
        )
    for key, values in KNOWN.items():
        if metadata[key] not in values:
            raise ModelError(
                f"{name}: {key} in its metadata must be {' or '.join(values)}; got {shorten(metadata[key])}"
            )
    if not _are_labels(metadata["labels"]):
        raise ModelError(
            f"{name}: labels in its metadata must be {LABELS}; got {shorten(metadata['labels'])}"
        )
    inputs = [(value.name, value.type, list(value.shape)[1:]) for value in session.get_inputs()]
    expected = [("images", INPUT_TYPES[metadata["input_range"]], [1, *IMAGE_SHAPE])]
    if inputs != expected or len(session.get_outputs()) != 1:
        raise ModelError(
            f"{name} must take {expected} and put out one value; "
            f"got {inputs} and {len(session.get_outputs())}"
        )
    return metadata


def _are_labels(text: str) -> bool:
    try:
        return are_labels(json.loads(text))
    except (ValueError, RecursionError):
        return False
