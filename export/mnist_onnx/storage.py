"""A model and its file: written with a card beside it, and read back into JAX, bit for bit."""

import hashlib
import json
import math
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mnist_jax import arrays
from mnist_jax.errors import ModelError
from mnist_jax.files import write_together
from mnist_jax.networks import Spec
from mnist_jax.specs import network_from_json
from mnist_onnx.classifier import KNOWN
from mnist_onnx.graph import to_onnx
from mnist_onnx.sessions import read_bytes, read_card
from mnist_onnx.weights import from_file

PLAIN = {"format", "labels", "network", "test_accuracy"}  # what a card does not keep as a text
OURS = {*KNOWN, "labels", "network", "parameters_sha256"}


def save(model: ModelProto, path: str | PathLike[str]) -> None:
    """Writes the file, and beside it a `.json` with all it says of itself, for runtimes that can't read that.

    A crash leaves the old two files or the new two; between two renames, it can leave a new file beside an
    old `.json`, whose `sha256` then is another's: whatever reads such a file here refuses it.

    Raises:
        ModelError: `path` does not end in `.onnx`; the `.json` is there and is something else; `to_onnx` has
            not built the model.
        OSError: a file cannot be written; what was there before still is.
    """
    if not isinstance(path, str | PathLike) or not isinstance(model, ModelProto):
        came = f"{type(model).__name__} and {path!r}"
        raise ModelError(f"save takes a model, as to_onnx builds it, and a file's path; got {came}")
    path = Path(path)
    if path.suffix != ".onnx":
        raise ModelError(f"an ONNX file's name must end in .onnx; got {path}")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    if "parameters_sha256" not in facts:
        raise ModelError("a model to save must be one that to_onnx has built; got another")
    check_free(path)
    data = model.SerializeToString(deterministic=True)
    card = json.dumps(describe(model, path.name, data), indent=2, sort_keys=True) + "\n"
    write_together({path: data, path.with_suffix(".json"): card.encode()})


def check_free(path: Path) -> None:
    """Checks that the `.json` beside a file is one that `save` has written, if there is one.

    Raises:
        ModelError: it is something else.
    """
    card_path = path.with_suffix(".json")
    if card_path.exists() and read_card(card_path) is None:
        raise ModelError(
            f"{card_path} would be overwritten, which describes no ONNX file; choose another name"
        )


def describe(model: ModelProto, name: str, data: bytes) -> dict[str, Any]:
    """All that one of our models says of itself, and its file's name, size and sum: plain values.

    A file's metadata holds texts alone; what stands for a number, a list or a network is one here.
    """
    facts = {entry.key: entry.value for entry in model.metadata_props}
    return {
        **{name: _plain(text) if name in PLAIN else text for name, text in facts.items()},
        "file": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "opset": model.opset_import[0].version,
        "ir_version": model.ir_version,
        "inputs": [_describe(value) for value in model.graph.input],
        "outputs": [_describe(value) for value in model.graph.output],
        "producer": f"{model.producer_name} {model.producer_version}",
    }


def load(path: str | PathLike[str]) -> tuple[Spec, dict[str, Any]]:
    """Reads a float32 file that `save` wrote back into JAX, such as to train it further.

    Nothing is taken on trust: `to_onnx` must make the same graph again of what was read.

    Returns:
        The network and its parameters, a nested dict of NumPy arrays, bit for bit those that were exported.

    Raises:
        ModelError: the file is missing, damaged, not one of ours, or its weights have been rounded.
    """
    spec, params, _ = load_with_facts(path)
    return spec, params


def load_with_facts(path: str | PathLike[str]) -> tuple[Spec, dict[str, Any], dict[str, str]]:
    """As `load`, and all that the file says of itself.

    Raises:
        ModelError: as `load`.
    """
    if not isinstance(path, str | PathLike):
        raise ModelError(f"load takes a file's path; got {type(path).__name__}")
    name = fspath(path)
    model = parse(read_bytes(name), name)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    if missing := sorted(OURS - set(facts)):
        raise ModelError(
            f"{name} must be a file written by mnist-jax; its metadata lacks {', '.join(missing)}"
        )
    if facts["precision"] != "float32":
        raise ModelError(
            f"{name} must hold float32 weights; got {facts['precision']}, of which the rest was lost in "
            "rounding; load the float32 file of the same network"
        )
    try:
        spec = network_from_json(json.loads(facts["network"]))
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        params = arrays.unflatten(from_file(spec, tensors))
        again = to_onnx(
            spec,
            params,
            input="uint8" if facts["input_range"] == "0..255" else "float32",
            output=facts["output"],
            classes=json.loads(facts["labels"]),
            facts={key: value for key, value in facts.items() if key not in OURS},
        )
    except KeyError as error:
        raise ModelError(f"{name} is damaged: it lacks {error}") from None
    except (ValueError, TypeError, RecursionError) as error:  # SpecError among them
        raise ModelError(f"{name} is damaged: {' '.join(str(error).split())}") from None
    told = {entry.key: entry.value for entry in again.metadata_props}
    again.producer_version = model.producer_version  # an older one has written the same
    for each in (again, model):
        del each.metadata_props[:]
    if told != facts or again != model:
        raise ModelError(f"{name} is damaged: its graph is not the one of what its metadata says")
    return spec, params, facts


def parse(data: bytes, name: str = "the model") -> ModelProto:
    """The model in a file's bytes, all of it: nothing is read from other files.

    Raises:
        ModelError: it is not ONNX, or would have its weights in another file.
    """
    try:
        model = onnx.load_from_string(data)
    except DecodeError:
        raise ModelError(f"{name} must be an ONNX file; it is none, or it is damaged") from None
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{name} must hold its own weights; those of {tensor.name!a} are in another file"
            )
    return model


def _plain(text: str) -> Any:
    """The value that a text stands for; the text where it stands for none that JSON has."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _describe(value: Any) -> dict[str, Any]:
    tensor = value.type.tensor_type
    return {
        "name": value.name,
        "dtype": helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        "shape": [axis.dim_param or axis.dim_value for axis in tensor.shape.dim],
    }
