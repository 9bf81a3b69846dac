"""Answers from an ONNX file, with NumPy and ONNX Runtime alone."""

import json
from os import PathLike, fspath
from typing import Any

import numpy as np

from mnist_jax.checks import check_images
from mnist_jax.errors import InputError, ModelError


class Classifier:
    """A digit classifier in an ONNX file written by `mnist_onnx.save`.

    Attributes:
        labels: the names of the ten classes.
        metadata: all that the file says of itself.

    Raises:
        ModelError: the file is missing, damaged, not ONNX, or not one of ours.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._session = open_session(path)
        self.metadata: dict[str, str] = read_metadata(self._session, fspath(path))
        self.labels: list[str] = json.loads(self.metadata["labels"])

    def predict(self, images: Any) -> np.ndarray:
        """What the network answers, float32 `[batch, 10]`: the class is its argmax.

        A softmax network's ten numbers add up to one; a sigmoid network's need not.

        Args:
            images: `[batch, 28, 28]`, white on black, uint8 0..255, or float32 0..1 where the file takes
                that. (uint8 images are scaled for a float32 file.)

        Raises:
            InputError: another shape, dtype or range.
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
        (answer,) = self._session.run(None, {"images": images[:, None]})
        if self.metadata["output"] == "logits":
            answer = _probabilities(answer, self.metadata["network_output"])
        result: np.ndarray = answer
        return result


def open_session(model: str | PathLike[str] | bytes) -> Any:
    """An ONNX Runtime session on the CPU, for a file or for the bytes of one.

    Raises:
        ModelError: it is missing, damaged or not ONNX.
    """
    import onnxruntime as ort

    name = "the model" if isinstance(model, bytes) else fspath(model)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # what goes wrong is raised; warnings would only be printed
    try:
        data = model if isinstance(model, bytes) else _read(name)
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except ModelError:
        raise
    except Exception as error:  # onnxruntime's own errors have no common base
        reason = " ".join(str(error).split())
        raise ModelError(f"{name} must be an ONNX file; ONNX Runtime refuses it: {reason}") from None


def read_metadata(session: Any, name: str) -> dict[str, str]:
    """What one of our files says of itself.

    Raises:
        ModelError: the file is not one of ours.
    """
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    wanted = {"format", "input_range", "labels", "network_output", "output"}
    if missing := sorted(wanted - set(metadata)):
        raise ModelError(
            f"{name} must be a file written by mnist-jax, which says what pixels it takes; "
            f"its metadata lacks {', '.join(missing)}"
        )
    return metadata


def _read(name: str) -> bytes:
    try:
        with open(name, "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError as error:
        raise ModelError(f"{name} must be an ONNX file; it cannot be read: {error.strerror}") from None


def _probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    if kind == "sigmoid":
        return (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)  # never overflows
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return result
