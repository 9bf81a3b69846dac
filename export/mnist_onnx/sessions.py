"""ONNX Runtime: a file's bytes, asked on the CPU or where the caller says; what goes wrong is one line."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax import files
from mnist_jax.errors import ModelError, RuntimeUnavailableError
from mnist_jax.networks import CLASSES
from mnist_onnx.limits import check_graph

LARGEST_MODEL = 2**31 - 1  # bytes: protobuf can't hold more in one message
LARGEST_CARD = 2**24
ROUNDING = 1 / 256  # of a probability

Provider = str | tuple[str, dict[str, Any]]
CPU = ("CPUExecutionProvider",)


def open_session(
    data: bytes, name: str = "the model", providers: Sequence[Provider] = CPU, options: Any = None
) -> Any:
    """An ONNX Runtime session for the bytes of a file.

    Args:
        data: the bytes.
        name: what to call the file in an error.
        providers: what computes, as ONNX Runtime names it, in order of preference.
        options: its `SessionOptions`; our own where none are given.

    Raises:
        ModelError: it is damaged or not ONNX, or `check_graph` refuses its graph; or an argument is of the
            wrong type.
        RuntimeUnavailableError: a provider is not on this machine, or does not start here.
    """
    check_graph(data, name)
    import onnxruntime as ort

    if options is None:
        options = ort.SessionOptions()
        options.log_severity_level = 3  # what goes wrong is raised; warnings would only be printed
    if not isinstance(options, ort.SessionOptions):
        raise ModelError(f"session options must be ONNX Runtime's SessionOptions; got {options!r}")
    asked = _names(providers)
    if missing := [wanted for wanted in asked if wanted not in ort.get_available_providers()]:
        raise RuntimeUnavailableError(
            f"providers must be among those of the ONNX Runtime that is installed, "
            f"{', '.join(ort.get_available_providers())}; got {', '.join(missing)}"
        )
    try:
        # Without its fallback, which would print, and try again what has just failed.
        session = ort.InferenceSession(data, options, list(providers), enable_fallback=False)
    except Exception as error:  # onnxruntime's own errors have no common base
        raise ModelError(
            f"{name} must be an ONNX file; ONNX Runtime refuses it: {_one_line(error)}"
        ) from None
    # One that does not start, as on a machine without its device, would be left out without a word.
    if missing := [wanted for wanted in asked if wanted not in session.get_providers()]:
        raise RuntimeUnavailableError(
            f"providers must start on this machine; {', '.join(missing)} did not, "
            f"{', '.join(session.get_providers())} did"
        )
    return session


def _names(providers: object) -> list[str]:
    """The names of providers, with or without options.

    Raises:
        ModelError: they are none.
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
    """What a file says of itself, whoever wrote it.

    Raises:
        ModelError: it is not text.
    """
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError:
        raise ModelError(f"{name} is damaged: its metadata is not text") from None


def run(
    session: Any, feed: dict[str, np.ndarray], outputs: list[str] | None, name: str = "the model"
) -> list[np.ndarray]:
    """The outputs for an input `[batch, ...]` by its name, each float32 `[batch, 10]`.

    Raises:
        ModelError: the graph fails, or puts out something else.
    """
    (count,) = {len(array) for array in feed.values()}
    try:
        found: list[np.ndarray] = session.run(outputs, feed)
    except Exception as error:
        raise ModelError(f"{name} cannot be run on {count} images: {_one_line(error)}") from None
    for array in found:
        if not isinstance(array, np.ndarray):
            raise ModelError(f"{name} must put out an array; got {type(array).__name__}")
        if array.shape != (count, CLASSES) or array.dtype != np.float32:
            raise ModelError(
                f"{name} must put out float32 [{count}, {CLASSES}]; got {array.dtype} {list(array.shape)}"
            )
    return found


def read_bytes(name: str) -> bytes:
    """The content of an ONNX file, once the card beside it, if `save` has left one, is known to be its own.

    A crash while both are written can leave a new file beside an old card.

    Raises:
        ModelError: it cannot be read, is no ordinary file or too large; or the card describes another file.
    """
    try:
        data = files.read_bytes(name, LARGEST_MODEL)
    except OSError as error:
        raise ModelError(f"{name} must be an ONNX file; it cannot be read: {error.strerror}") from None
    except ValueError as error:  # of a name that no file can have
        raise ModelError(f"{name!a} must be an ONNX file; it cannot be read: {error}") from None
    beside = Path(name).with_suffix(".json")
    card = read_card(beside) if Path(name).suffix.lower() == ".onnx" else None
    if card is not None and card.get("sha256") != hashlib.sha256(data).hexdigest():
        raise ModelError(
            f"{beside} must describe {Path(name).name}; it describes another file, as after an export that "
            "was killed; export again, or move it away"
        )
    return data


def read_card(path: Path) -> dict[str, Any] | None:
    """What a `.json` file says that `save` has written; None if there is none, or it is something else."""
    try:
        card = files.parse_json(files.read_bytes(path, LARGEST_CARD))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) and "parameters_sha256" in card else None


def check_probabilities(answer: np.ndarray, kind: str, name: str = "the model") -> None:
    """Checks that numbers `[batch, 10]` can be what a softmax or a sigmoid gives, to a rounding in 8 bits.

    Raises:
        ModelError: one is outside 0..1 or not a number, or those of a softmax don't add up to one.
    """
    low, high = answer.min(initial=0), answer.max(initial=0)  # NaN if there is one
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ModelError(f"{name} must put out probabilities, as it says; got {low:g}..{high:g}")
    sums = answer.sum(axis=-1)
    if kind == "softmax" and (np.abs(sums - 1) > 10 * ROUNDING).any():
        furthest = sums[np.abs(sums - 1).argmax()]
        raise ModelError(
            f"{name} must put out ten probabilities that add up to 1, as it says; got {furthest:g}"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    """What `softmax` or `sigmoid` makes of logits, float32 `[batch, 10]`."""
    if kind == "sigmoid":
        return (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)  # never overflows
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
