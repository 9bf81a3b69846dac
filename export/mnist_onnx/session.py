"""ONNX Runtime sessions on the bytes of a file, with every failure reported as one line."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_jax._utils import atomic_io
from mnist_jax.errors import ModelError, RuntimeUnavailableError
from mnist_onnx.graph_limits import check_graph

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST_MODEL = 2**31 - 1  # bytes: the limit of one protobuf message
LARGEST_CARD = 2**24  # bytes
ROUNDING = 1 / 256  # of a probability

Provider = str | tuple[str, dict[str, Any]]
CPU = ("CPUExecutionProvider",)


def open_session(
    data: bytes, name: str = "the model", providers: Sequence[Provider] = CPU, options: Any = None
) -> Any:
    """Opens an ONNX Runtime session on the bytes of a file.

    Args:
        data: the bytes of the file.
        name: what to call the file in an error message.
        providers: ONNX Runtime execution providers, in order of preference.
        options: an `onnxruntime.SessionOptions`. Default: ONNX Runtime's own, without its warnings.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ModelError: the file is damaged or not ONNX, `check_graph` rejects its graph, or an argument has the
            wrong type.
        RuntimeUnavailableError: a provider is not available on this machine, or does not start.
    """
    check_graph(data, name)
    import onnxruntime as ort

    if options is None:
        options = ort.SessionOptions()
        options.log_severity_level = 3  # failures are raised as errors; warnings would only be printed
    if not isinstance(options, ort.SessionOptions):
        raise ModelError(f"session options must be ONNX Runtime's SessionOptions; got {options!r}")
    requested = _names(providers)
    if missing := [provider for provider in requested if provider not in ort.get_available_providers()]:
        raise RuntimeUnavailableError(
            f"providers must be among those of the ONNX Runtime that is installed, "
            f"{', '.join(ort.get_available_providers())}; got {', '.join(missing)}"
        )
    try:
        # The fallback would print a message and retry with the provider that has just failed.
        session = ort.InferenceSession(data, options, list(providers), enable_fallback=False)
    except Exception as error:  # onnxruntime's own errors have no common base
        raise ModelError(
            f"{name} must be an ONNX file; ONNX Runtime refuses it: {_one_line(error)}"
        ) from None
    # ONNX Runtime silently leaves out a provider that does not start, as on a machine without its device.
    if missing := [provider for provider in requested if provider not in session.get_providers()]:
        raise RuntimeUnavailableError(
            f"providers must start on this machine; {', '.join(missing)} did not, "
            f"{', '.join(session.get_providers())} did"
        )
    return session


def _names(providers: object) -> list[str]:
    """The names of execution providers that are given with or without options.

    Raises:
        ModelError: `providers` is not a list of names, or of pairs of a name and its options.
    """
    listed = list(providers) if isinstance(providers, list | tuple) else []
    pairs = [(each, {}) if isinstance(each, str) else each for each in listed]
    if not pairs or not all(
        isinstance(pair, tuple) and [type(part) for part in pair] == [str, dict] for pair in pairs
    ):
        raise ModelError(
            "providers must be a list of ONNX Runtime's names, such as CUDAExecutionProvider, "
            f"or of pairs of a name and a dict of its options; got {providers!r}"
        )
    return [name for name, _ in pairs]


def metadata_of(session: Any, name: str = "the model") -> dict[str, str]:
    """The metadata of the file that a session has open, whoever wrote it.

    Raises:
        ModelError: the metadata is not valid text.
    """
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError:
        raise ModelError(f"{name} is damaged: its metadata is not text") from None


def metadata_of_model(model: "ModelProto") -> dict[str, str]:
    """The metadata of a model in memory."""
    return {entry.key: entry.value for entry in model.metadata_props}


def run(
    session: Any,
    feed: dict[str, np.ndarray],
    outputs: list[str] | None,
    name: str = "the model",
    *,
    num_classes: int = 10,
) -> list[np.ndarray]:
    """Runs a session on one batch and checks the shape and dtype of its outputs.

    Args:
        session: an `onnxruntime.InferenceSession`.
        feed: the inputs by name, each `[batch, ...]`.
        outputs: the names of the outputs to compute; None for all of the graph's.
        name: what to call the file in an error message.
        num_classes: the number of classes that the file must have.

    Returns:
        The outputs, each float32 `[batch, classes]`.

    Raises:
        ModelError: the graph fails, or an output has another type, shape or dtype.
    """
    (count,) = {len(array) for array in feed.values()}
    try:
        results: list[np.ndarray] = session.run(outputs, feed)
    except Exception as error:
        raise ModelError(f"{name} cannot be run on {count} images: {_one_line(error)}") from None
    for array in results:
        if not isinstance(array, np.ndarray):
            raise ModelError(f"{name} must output an array; got {type(array).__name__}")
        if array.shape != (count, num_classes) or array.dtype != np.float32:
            raise ModelError(
                f"{name} must output float32 [{count}, {num_classes}]; got {array.dtype} {list(array.shape)}"
            )
    return results


def read_bytes(name: str) -> bytes:
    """Reads an ONNX file and checks it against the `.json` beside it, if `save` wrote one.

    A crash during `save` can leave a new file beside the old `.json`.

    Raises:
        ModelError: the file cannot be read, is not an ordinary file or is too large, or the `.json` describes
            another file.
    """
    try:
        data = atomic_io.read_bytes(name, LARGEST_MODEL)
    except OSError as error:
        raise ModelError(f"{name} must be an ONNX file; it cannot be read: {error.strerror}") from None
    except ValueError as error:  # raised for a name that no file can have
        raise ModelError(f"{name!a} must be an ONNX file; it cannot be read: {error}") from None
    card_path = Path(name).with_suffix(".json")
    card = read_card(card_path) if Path(name).suffix.lower() == ".onnx" else None
    if card is not None and card.get("sha256") != hashlib.sha256(data).hexdigest():
        raise ModelError(
            f"{card_path} must describe {Path(name).name}; it describes another file, as after an export "
            "that was killed; export again, or move it away"
        )
    return data


def read_card(path: Path) -> dict[str, Any] | None:
    """The content of a `.json` that `save` wrote; None if the file is missing or something else."""
    try:
        card = atomic_io.parse_json(atomic_io.read_bytes(path, LARGEST_CARD))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) and "parameters_sha256" in card else None


def check_probabilities(outputs: np.ndarray, kind: str, name: str = "the model") -> None:
    """Checks that an array can be the output of a softmax or a sigmoid, with a tolerance for 8-bit rounding.

    Args:
        outputs: float `[batch, classes]`.
        kind: `softmax` or `sigmoid`.
        name: what to call the file in an error message.

    Raises:
        ModelError: a value is NaN or outside 0..1, or the probabilities of a softmax do not add up to one.
    """
    low, high = outputs.min(initial=0), outputs.max(initial=0)  # NaN if any value is
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ModelError(f"{name} must output probabilities, as it says; got {low:g}..{high:g}")
    sums = outputs.sum(axis=-1)
    if kind == "softmax" and (np.abs(sums - 1) > 10 * ROUNDING).any():
        furthest = sums[np.abs(sums - 1).argmax()]
        raise ModelError(f"{name} must output probabilities that add up to 1, as it says; got {furthest:g}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    """The `softmax` or `sigmoid` of logits.

    Args:
        logits: float32 `[batch, classes]`.
        kind: `softmax` or `sigmoid`.

    Returns:
        float32 `[batch, classes]`.
    """
    if kind == "sigmoid":
        return (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)  # unlike 1 / (1 + exp(-x)): no overflow
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
