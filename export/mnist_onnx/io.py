"""Write a model to a file with a `.json` beside it, and read it back into JAX, bit for bit."""

import hashlib
import json
import math
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mnist_jax._utils import param_dicts
from mnist_jax._utils.atomic_io import write_together
from mnist_jax.config.networks import Spec
from mnist_jax.config.serialization import network_from_json
from mnist_jax.errors import ModelError
from mnist_onnx.classifier import KNOWN
from mnist_onnx.export import Output, to_onnx
from mnist_onnx.layout import from_file
from mnist_onnx.session import metadata_of_model, read_bytes, read_card

PLAIN = {"format", "labels", "network", "test_accuracy"}  # metadata that the `.json` keeps as JSON values
OURS = {*KNOWN, "labels", "network", "parameters_sha256"}


def save(model: ModelProto, path: str | PathLike[str]) -> None:
    """Writes a model, and beside it a `.json` with its metadata for runtimes that cannot read the file's.

    After a crash, both files are old or both are new. A crash between the two renames can leave a new file
    beside the old `.json`, whose `sha256` then does not match; this package refuses to read such a file.

    Args:
        model: a model that `to_onnx` or `quantize` built.
        path: the path of the file; it must end in `.onnx`.

    Raises:
        ModelError: `path` does not end in `.onnx`, `to_onnx` did not build the model, or the `.json` exists
            and `save` did not write it.
        OSError: a file cannot be written; existing files stay unchanged.

    Examples:
        >>> import json, pathlib, tempfile
        >>> import jax, mnist_jax, mnist_onnx
        >>> spec = mnist_jax.MLP((16,), ("relu",))
        >>> model = mnist_onnx.to_onnx(spec, mnist_jax.init(spec, jax.random.key(0)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mnist_onnx.save(model, f"{folder}/model.onnx")
        ...     card = json.loads(pathlib.Path(folder, "model.json").read_text())
        >>> card["inputs"]
        [{'dtype': 'uint8', 'name': 'images', 'shape': ['batch', 1, 28, 28]}]
    """
    if not isinstance(path, str | PathLike) or not isinstance(model, ModelProto):
        got = f"{type(model).__name__} and {path!r}"
        raise ModelError(f"save takes a model that to_onnx built, and a file's path; got {got}")
    path = Path(path)
    if path.suffix != ".onnx":
        raise ModelError(f"an ONNX file's name must end in .onnx; got {path}")
    if "parameters_sha256" not in metadata_of_model(model):
        raise ModelError("a model to save must be one that to_onnx built; got another")
    check_free(path)
    data = model.SerializeToString(deterministic=True)
    card = json.dumps(describe(model, path.name, data), indent=2, sort_keys=True) + "\n"
    write_together({path: data, path.with_suffix(".json"): card.encode()})


def check_free(path: Path) -> None:
    """Checks that the `.json` beside a file, if there is one, was written by `save`.

    Raises:
        ModelError: the `.json` is something else.
    """
    card_path = path.with_suffix(".json")
    if card_path.exists() and read_card(card_path) is None:
        raise ModelError(f"{card_path} would be overwritten, but save did not write it; choose another name")


def describe(model: ModelProto, name: str, data: bytes) -> dict[str, Any]:
    """Describes a model and its file with JSON values.

    Metadata in the file are strings; those that encode numbers, lists or a network are decoded here.

    Args:
        model: a model that `to_onnx` or `quantize` built.
        name: the name of the file.
        data: the bytes of the file.

    Returns:
        The metadata, the file's name, size and SHA-256, the inputs, the outputs and the ONNX versions.
    """
    metadata = metadata_of_model(model)
    return {
        **{key: _plain(text) if key in PLAIN else text for key, text in metadata.items()},
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
    """Reads a float32 file that `save` wrote back into JAX, for example to continue training.

    The spec and parameters are exported again to check that they give the graph in the file.

    Args:
        path: the path of the file.

    Returns:
        The network spec, and its parameters as a nested dict of NumPy arrays, bit-identical to those that
        were exported.

    Raises:
        ModelError: the file is missing or damaged, `save` did not write it, or its weights are rounded.

    Examples:
        >>> import tempfile
        >>> import jax, mnist_jax, mnist_onnx
        >>> spec = mnist_jax.MLP((16,), ("relu",))
        >>> model = mnist_onnx.to_onnx(spec, mnist_jax.init(spec, jax.random.key(0)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mnist_onnx.save(model, f"{folder}/model.onnx")
        ...     loaded_spec, params = mnist_onnx.load(f"{folder}/model.onnx")
        >>> loaded_spec == spec
        True
        >>> params["Dense_1"]["kernel"].shape
        (16, 10)
    """
    spec, params, _ = load_with_metadata(path)
    return spec, params


def load_with_metadata(path: str | PathLike[str]) -> tuple[Spec, dict[str, Any], dict[str, str]]:
    """Like `load`, but also returns the metadata of the file.

    Raises:
        ModelError: as for `load`.
    """
    if not isinstance(path, str | PathLike):
        raise ModelError(f"load takes a file's path; got {type(path).__name__}")
    name = fspath(path)
    model = parse(read_bytes(name), name)
    metadata = metadata_of_model(model)
    if missing := sorted(OURS - set(metadata)):
        raise ModelError(
            f"{name} must be a file written by mnist-jax; its metadata lacks {', '.join(missing)}"
        )
    if metadata["precision"] != "float32":
        raise ModelError(
            f"{name} must hold float32 weights; got {metadata['precision']}, which are rounded; "
            "load the float32 file of the same network"
        )
    try:
        spec = network_from_json(json.loads(metadata["network"]))
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        params = param_dicts.unflatten(from_file(spec, tensors))
        rebuilt = to_onnx(
            spec,
            params,
            input="uint8" if metadata["input_range"] == "0..255" else "float32",
            output=cast(Output, metadata["output"]),
            classes=json.loads(metadata["labels"]),
            metadata={key: value for key, value in metadata.items() if key not in OURS},
        )
    except KeyError as error:
        raise ModelError(f"{name} is damaged: it lacks {error}") from None
    except (ValueError, TypeError, RecursionError) as error:  # SpecError is a ValueError
        raise ModelError(f"{name} is damaged: {' '.join(str(error).split())}") from None
    rebuilt_metadata = metadata_of_model(rebuilt)
    rebuilt.producer_version = model.producer_version  # an older version writes the same graph
    for each in (rebuilt, model):
        del each.metadata_props[:]
    if rebuilt_metadata != metadata or rebuilt != model:
        raise ModelError(f"{name} is damaged: its graph does not match its metadata")
    return spec, params, metadata


def parse(data: bytes, name: str = "the model") -> ModelProto:
    """Parses the bytes of a file, without reading any other file.

    Raises:
        ModelError: the bytes are not ONNX, or refer to weights in another file.
    """
    try:
        model = onnx.load_from_string(data)
    except DecodeError:
        raise ModelError(f"{name} must be an ONNX file; it is damaged, or not ONNX") from None
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{name} must hold its own weights; those of {tensor.name!a} are in another file"
            )
    return model


def _plain(text: str) -> Any:
    """The JSON value that a text encodes, or the text itself if it encodes none."""
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
