"""A training state in one safetensors file: arrays by path, readable metadata, and a sum over both.

safetensors itself loads a flipped bit without a word, so a sha256 of all the rest is kept in the
metadata and checked on the way in.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from mnist_jax import arrays
from mnist_jax.errors import CheckpointError
from mnist_jax.files import check_ordinary, parse_json, write_atomic
from mnist_jax.settings import shorten
from mnist_jax.train import TrainState

FORMAT = 1
# Bytes: more than a state with two moments and an average, of a network whose ONNX file protobuf can hold.
LARGEST = 2**34
PARAMS, AVERAGE = f"params{arrays.SEPARATOR}", f"average{arrays.SEPARATOR}"


def save(path: str | PathLike[str], state: TrainState, metadata: Mapping[str, Any]) -> None:
    """Writes the state, whole or not at all; `metadata` is anything that JSON can hold.

    The file that was there before is kept as `previous_path(path)`.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    flat = _flatten(state)
    header = {**metadata, "format": FORMAT, "key_impl": str(jax.random.key_impl(state.key))}
    header["sha256"] = _digest(flat, header)
    data = safetensors.numpy.save(flat, {"mnist_jax": json.dumps(header)})
    write_atomic(Path(path), data, previous=previous_path(path))


def previous_path(path: str | PathLike[str]) -> Path:
    """Where `save` keeps the checkpoint before the last: `checkpoint.previous.safetensors`."""
    path = Path(path)
    return path.with_suffix(f".previous{path.suffix}")


def load(path: str | PathLike[str], skeleton: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Reads a state of the same structure, shapes and dtypes as `skeleton`, and the metadata.

    The skeleton's values are not used, nor what its key is made of:
    `jax.eval_shape(functools.partial(init_state, config), key)` makes one for nothing.

    Raises:
        CheckpointError: damaged, of a newer format, of another structure, or with parameters that are not
            finite; says what was expected.
    """
    flat, header = _read(path)
    kind = header.get("key_impl")
    try:  # the file knows what its key is made of; JAX's default, as in the skeleton, may be another by now
        own_key = jax.eval_shape(functools.partial(jax.random.key, 0, impl=str(kind)))
    except (ValueError, TypeError):
        raise CheckpointError(
            f"{path} must be a checkpoint with a key of a kind that JAX knows, key_impl; got {shorten(kind)}"
        ) from None
    skeleton = skeleton._replace(key=own_key)
    expected = jax.tree_util.tree_flatten_with_path(_untyped(skeleton))[0]
    names = [_name(key_path) for key_path, _ in expected]
    if set(names) != set(flat):
        odd = sorted(set(names) ^ set(flat))[0]
        verb = "is missing" if odd in names else "was not expected"
        raise CheckpointError(f"{path} is a checkpoint of another model or optimiser: {odd} {verb}")
    for name, (_, leaf) in zip(names, expected, strict=True):
        found = flat[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise CheckpointError(
                f"{path} is a checkpoint of another model: {name} must be {leaf.dtype}{list(leaf.shape)}; "
                f"got {found.dtype}{list(found.shape)}"
            )
    structure = jax.tree.structure(_untyped(skeleton))
    state: TrainState = jax.tree.unflatten(structure, [jax.numpy.asarray(flat[name]) for name in names])
    return state._replace(key=jax.random.wrap_key_data(state.key, impl=str(kind))), header


def load_params(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the parameters to score and export alone, as a nested dict of NumPy arrays, and the metadata.

    Raises:
        CheckpointError: damaged, of a newer format, or with parameters that are not finite float32 numbers.
    """
    flat, header = _read(path)
    prefix = AVERAGE if any(name.startswith(AVERAGE) for name in flat) else PARAMS
    params = {name[len(prefix) :]: flat[name] for name in flat if name.startswith(prefix)}
    try:
        return arrays.unflatten(params), header
    except (AttributeError, TypeError, IndexError):  # an array has the name of a layer
        raise CheckpointError(f"{path} is damaged: its arrays' names are no network's") from None


def _read(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the metadata, checked against the sum."""
    try:
        check_ordinary(path, LARGEST)
        with safetensors.safe_open(path, "np") as file:
            header = parse_json((file.metadata() or {})["mnist_jax"])
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        version, sha256 = header["format"], header["sha256"]
        came = _digest(flat, header)
    except FileNotFoundError:  # which safetensors says of a file that may not be read, too
        reason = "it cannot be read: Permission denied" if Path(path).exists() else "there is no such file"
        raise CheckpointError(f"{path} must be a checkpoint; {reason}") from None
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CheckpointError(
            f"{path} must be a checkpoint of mnist-jax; it cannot be read: {reason}"
        ) from None
    if type(version) is not int or not 1 <= version <= FORMAT:
        newer = "; a newer mnist-jax reads it" if type(version) is int and version > FORMAT else ""
        raise CheckpointError(f"{path} must be of format {FORMAT} or older; got {shorten(version)}{newer}")
    if came != sha256:
        raise CheckpointError(
            f"{path} is damaged: its content must have sha256 {str(sha256)[:64]}; got {came}"
        )
    for name, array in flat.items():
        if name.startswith((PARAMS, AVERAGE)) and not (
            array.dtype == np.float32 and np.isfinite(array).all()
        ):
            raise CheckpointError(
                f"{path} must hold finite float32 parameters; got others in {shorten(name)}, {array.dtype}; "
                "train again, with a smaller learning rate if that diverged"
            )
    return flat, header


def _digest(flat: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    """The sum over arrays and metadata, but for the sum itself."""
    rest = json.dumps({name: header[name] for name in header if name != "sha256"}, sort_keys=True)
    return hashlib.sha256(f"{arrays.digest(flat)} {rest}".encode()).hexdigest()


def _untyped(state: TrainState) -> TrainState:
    """The state with its key as plain numbers, which a file can hold."""
    if isinstance(state.key, jax.ShapeDtypeStruct):
        return state._replace(key=jax.eval_shape(jax.random.key_data, state.key))
    return state._replace(key=jax.random.key_data(state.key))


def _flatten(state: TrainState) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(_untyped(state))[0]
    return {_name(key_path): np.asarray(leaf) for key_path, leaf in leaves}


def _name(key_path: Any) -> str:
    return jax.tree_util.keystr(key_path, simple=True, separator=arrays.SEPARATOR)
