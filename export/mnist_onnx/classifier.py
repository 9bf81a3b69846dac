"""Inference from an ONNX file, with NumPy and ONNX Runtime alone."""

import json
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np

from mnist_jax.config.input_checks import as_images
from mnist_jax.config.networks import IMAGE_SHAPE, LABELS, MAX_CLASSES, PIXEL_SCALE, are_labels
from mnist_jax.config.pixel_checks import check_pixels, look_inverted
from mnist_jax.config.validation import shorten
from mnist_jax.data.registry import numbered
from mnist_jax.errors import InputError, ModelError
from mnist_onnx.external import Foreign, check_sizes, parse_range
from mnist_onnx.graph_limits import check_ours
from mnist_onnx.session import (
    CPU,
    Provider,
    check_probabilities,
    metadata_of,
    open_session,
    probabilities,
    read_bytes,
    run,
)

# The valid values of each metadata entry that affects the outputs.
KNOWN = {
    "format": ("2",),
    "input_range": ("0..255", "0..1"),
    "network_output": ("softmax", "sigmoid"),
    "output": ("probabilities", "logits"),
    "precision": ("float32", "float16", "int8", "int8-static"),
}
CHUNK_SIZE = 1000  # images that a session runs on at a time
INPUT_TYPES = {"0..255": "tensor(uint8)", "0..1": "tensor(float)"}


class Classifier:
    """A digit classifier loaded from an ONNX file.

    The file is either written by `save`, or any other with one 28x28 input whose pixel range is known.

    Attributes:
        labels: the names of the classes.
        metadata: the metadata of the file.

    Args:
        path: the path of the file.
        input_range: for a file that `save` did not write: the input values of a black and of a white pixel,
            such as `0..1`, `0..255`, or `-0.4242..2.8215`.
        providers: ONNX Runtime execution providers in order of preference, such as
            `["CUDAExecutionProvider"]`, or pairs of a name and a dict of options. Default: the CPU only.
        session_options: an `onnxruntime.SessionOptions`, for example to set the number of threads.

    Raises:
        ModelError: the file is missing, damaged or not ONNX; it needs an `input_range` and none is given, or
            the reverse; or its input is not one 28x28 image.
        InputError: `input_range` is not two numbers such as `0..1`.
        RuntimeUnavailableError: a provider is not available on this machine.
        NotInstalledError: `input_range` is given and the package onnx is not installed.

    Examples:
        >>> import tempfile
        >>> import jax, mnist_jax, mnist_onnx, numpy
        >>> spec = mnist_jax.MLP((16,), ("relu",))
        >>> model = mnist_onnx.to_onnx(spec, mnist_jax.init(spec, jax.random.key(0)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mnist_onnx.save(model, f"{folder}/model.onnx")
        ...     classifier = mnist_onnx.Classifier(f"{folder}/model.onnx")
        >>> classifier.predict(numpy.zeros((2, 28, 28), numpy.uint8)).shape
        (2, 10)
        >>> classifier.labels[7]
        '7'
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
        check(data, self._name)  # before anything in the file is executed
        self._session = open_session(data, self._name, providers, session_options)
        self._foreign: Foreign | None = None
        if input_range is None:
            self.metadata = read_metadata(self._session, self._name)
            self.labels: list[str] = json.loads(self.metadata["labels"])
        else:
            self._foreign = Foreign(self._session, data, input_range, self._name)
            self.metadata = metadata_of(self._session, self._name)
            count, named = self._foreign.num_classes, self.metadata.get("labels", "")
            self.labels = json.loads(named) if _are_labels(named, count) else list(numbered(count))

    def predict(self, images: Any, *, invert: bool = False) -> np.ndarray:
        """Predicts class probabilities, 1,000 images at a time; the predicted class is their argmax.

        Args:
            images: `[batch, 28, 28]`, white on black: uint8 0..255, or float32 0..1 if the file takes
                float32. uint8 images are scaled for a float32 file.
            invert: whether the images are black on white.

        Returns:
            float32 `[batch, classes]`. The probabilities of a softmax network add up to one; those of a
            sigmoid network are independent.

        Raises:
            InputError: `images` has another shape, dtype or range, or looks black on white and `invert` is
                not set.
            ModelError: the graph fails on the images, or its output is not what the metadata says.
        """
        images = np.asarray(as_images(images))
        check_pixels(images)
        if not invert and look_inverted(images):
            raise InputError("images must be white on black; got bright borders; black on white: invert=True")
        starts = range(0, max(1, len(images)), CHUNK_SIZE)
        return np.concatenate([self._predict(images[i : i + CHUNK_SIZE], invert) for i in starts])

    def _predict(self, images: np.ndarray, invert: bool) -> np.ndarray:
        """Predicts a chunk of images whose pixels were checked."""
        if invert:
            images = (255 if images.dtype == np.uint8 else np.float32(1)) - images
        if self._foreign is not None:
            return self._foreign.predict(images)
        if self.metadata["input_range"] == "0..255" and images.dtype != np.uint8:
            raise InputError(
                "this file takes uint8 images, 0 to 255; got float32; pass the pixels as they are, "
                "or export with --input float32"
            )
        if self.metadata["input_range"] == "0..1" and images.dtype == np.uint8:
            images = images * np.float32(PIXEL_SCALE)
        (outputs,) = run(
            self._session, {"images": images[:, None]}, None, self._name, num_classes=len(self.labels)
        )
        if not np.isfinite(outputs).all():
            raise ModelError(f"{self._name} must output finite numbers; got NaN or infinite")
        kind = self.metadata["network_output"]
        if self.metadata["output"] == "logits":
            return probabilities(outputs, kind)
        check_probabilities(outputs, kind, self._name)
        return outputs


def read_metadata(session: Any, name: str = "the model") -> dict[str, str]:
    """Reads and checks the metadata of a file that `save` wrote.

    Args:
        session: an ONNX Runtime session on the file.
        name: what to call the file in an error message.

    Raises:
        ModelError: mnist-jax did not write the file, or its metadata is invalid or contradicts its graph.
    """
    metadata = metadata_of(session, name)
    if missing := sorted({*KNOWN, "labels"} - set(metadata)):
        raise ModelError(
            f"{name} must be a file written by mnist-jax; its metadata lacks {', '.join(missing)}; "
            "for a file from elsewhere, give its input range"
        )
    for key, values in KNOWN.items():
        if metadata[key] not in values:
            raise ModelError(
                f"{name}: {key} in its metadata must be {' or '.join(values)}; got {shorten(metadata[key])}"
            )
    outputs = [list(value.shape) for value in session.get_outputs()]
    classes = outputs[0][-1] if len(outputs) == 1 and outputs[0] else f"2 to {MAX_CLASSES:,}"
    if not _are_labels(metadata["labels"], classes):
        got = shorten(metadata["labels"])
        raise ModelError(f"{name}: labels in its metadata must be {classes} {LABELS}; got {got}")
    inputs = [(value.name, value.type, list(value.shape)[1:]) for value in session.get_inputs()]
    expected = [("images", INPUT_TYPES[metadata["input_range"]], [1, *IMAGE_SHAPE])]
    if inputs != expected or len(outputs) != 1:
        raise ModelError(f"{name} must take {expected} and output one value; got {inputs} and {len(outputs)}")
    return metadata


def _are_labels(text: str, num_classes: Any) -> bool:
    """Whether a text holds the names of all classes, whose number the graph may leave open."""
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return are_labels(labels) and (not isinstance(num_classes, int) or num_classes == len(labels))
