"""Answers from an ONNX file, with NumPy and ONNX Runtime alone."""

import json
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax.checks import check_images
from mnist_jax.errors import InputError, ModelError
from mnist_jax.networks import CLASSES, IMAGE_SHAPE

# What each entry of the metadata that changes answers may say.
KNOWN = {
    "format": ("1",),
    "input_range": ("0..255", "0..1"),
    "network_output": ("softmax", "sigmoid"),
    "output": ("probabilities", "logits"),
}
INPUT_TYPES = {"0..255": "tensor(uint8)", "0..1": "tensor(float)"}


class Classifier:
    """A digit classifier in an ONNX file written by `mnist_onnx.save`.

    Attributes:
        labels: the names of the ten classes.
        metadata: all that the file says of itself.

    Raises:
        ModelError: the file is missing, damaged, not ONNX, or not one of ours.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        if not isinstance(path, str | PathLike):
            raise ModelError(f"a Classifier is made from a file's path; got {type(path).__name__}")
        self._name = fspath(path)
        self._session = open_session(_read(self._name), self._name)
        self.metadata = read_metadata(self._session, self._name)
        self.labels: list[str] = json.loads(self.metadata["labels"])

    def predict(self, images: Any) -> np.ndarray:
        """What the network answers, float32 `[batch, 10]`: the class is its argmax.

        A softmax network's ten numbers add up to one; a sigmoid network's need not.

        Args:
            images: `[batch, 28, 28]`, white on black, uint8 0..255, or float32 0..1 where the file takes
                that. (uint8 images are scaled for a float32 file.)

        Raises:
            InputError: another shape, dtype or range.
            ModelError: the file's graph fails on them.
        """
        check_images(images)
        images = np.asarray(images)
        if self.metadata["input_range"] == "0..255" and images.dtype != np.uint8:
            raise InputError(
                "this file takes uint8 images, 0 to 255; got float32; pass the pixels as they are, "
                "or export with --input float32"
            )
        if self.metadata["input_range"] == "0..1" and images.dtype == np.uint8:
            images = images * np.float32(1 / 255)
        (answer,) = run(self._session, images, None, self._name)
        if self.metadata["output"] == "logits":
            answer = _probabilities(answer, self.metadata["network_output"])
        return answer


def open_session(data: bytes, name: str = "the model") -> Any:
    """An ONNX Runtime session on the CPU, for the bytes of a file.

    Raises:
        ModelError: it is damaged or not ONNX.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3  # what goes wrong is raised; warnings would only be printed
    try:
        # Without its fallback, which would print, and try again what has just failed.
        return ort.InferenceSession(data, options, ["CPUExecutionProvider"], enable_fallback=False)
    except Exception as error:  # onnxruntime's own errors have no common base
        raise ModelError(
            f"{name} must be an ONNX file; ONNX Runtime refuses it: {_one_line(error)}"
        ) from None


def run(
    session: Any, images: np.ndarray, outputs: list[str] | None, name: str = "the model"
) -> list[np.ndarray]:
    """The outputs for images `[batch, 28, 28]`, each float32 `[batch, 10]`.

    Raises:
        ModelError: the graph fails, or puts out something else.
    """
    try:
        found: list[np.ndarray] = session.run(outputs, {"images": images[:, None]})
    except Exception as error:
        raise ModelError(f"{name} cannot be run on {len(images)} images: {_one_line(error)}") from None
    for array in found:
        if array.shape != (len(images), CLASSES) or array.dtype != np.float32:
            raise ModelError(
                f"{name} must put out float32 [{len(images)}, {CLASSES}]; "
                f"got {array.dtype} {list(array.shape)}"
            )
    return found


def read_metadata(session: Any, name: str = "the model") -> dict[str, str]:
    """What one of our files says of itself.

    Raises:
        ModelError: the file is not one of ours, or says what cannot be.
    """
    try:
        metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError:
        raise ModelError(f"{name} is damaged: its metadata is not text") from None
    if missing := sorted({*KNOWN, "labels"} - set(metadata)):
        raise ModelError(
            f"{name} must be a file written by mnist-jax, which says what pixels it takes; "
            f"its metadata lacks {', '.join(missing)}"
        )
    for key, values in KNOWN.items():
        if metadata[key] not in values:
            raise ModelError(
                f"{name}: {key} in its metadata must be {' or '.join(values)}; got {metadata[key]!r}"
            )
    if not _are_labels(metadata["labels"]):
        raise ModelError(
            f"{name}: labels in its metadata must be {CLASSES} names; got {metadata['labels']!r}"
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
        labels = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(labels, list)
        and len(labels) == CLASSES
        and all(isinstance(label, str) for label in labels)
    )


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ModelError(f"{name} must be an ONNX file; it cannot be read: {error.strerror}") from None
    except ValueError as error:  # of a name that no file can have
        raise ModelError(f"{name!a} must be an ONNX file; it cannot be read: {error}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    if kind == "sigmoid":
        return (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)  # never overflows
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
