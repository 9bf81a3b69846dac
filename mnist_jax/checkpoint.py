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
from mnist_jax.files import write_atomic
from mnist_jax.train import TrainState

FORMAT = 1


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
        CheckpointError: damaged, of a newer format, or of another structure; says what was expected.
    """
    flat, header = _read(path)
    # The file knows what its key is made of; the skeleton's is of JAX's default, which may be another by now.
    own_key = functools.partial(jax.random.key, 0, impl=header["key_impl"])
    skeleton = skeleton._replace(key=jax.eval_shape(own_key))
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
    return state._replace(key=jax.random.wrap_key_data(state.key, impl=header["key_impl"])), header


def load_params(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the parameters to score and export alone, as a nested dict of NumPy arrays, and the metadata.

    Raises:
        CheckpointError: damaged, or of a newer format.
    """
    flat, header = _read(path)
    average, own = f"average{arrays.SEPARATOR}", f"params{arrays.SEPARATOR}"
    prefix = average if any(name.startswith(average) for name in flat) else own
    params = {name[len(prefix) :]: flat[name] for name in flat if name.startswith(prefix)}
    return arrays.unflatten(params), header


def _read(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the metadata, checked against the sum."""
    try:
        with safetensors.safe_open(path, "np") as file:
            header = json.loads((file.metadata() or {})["mnist_jax"])
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        version, sha256 = int(header["format"]), str(header["sha256"])
    except FileNotFoundError:  # which safetensors says of a file that may not be read, too
        reason = "it cannot be read: Permission denied" if Path(path).exists() else "there is no such file"
        raise CheckpointError(f"{path} must be a checkpoint; {reason}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} must be a checkpoint of mnist-jax; it cannot be read: {error}"
        ) from None
    if version > FORMAT:
        raise CheckpointError(
            f"{path} must be of format {FORMAT} or older; got {version}; a newer mnist-jax reads it"
        )
    if (came := _digest(flat, header)) != sha256:
        raise CheckpointError(f"{path} is damaged: its content must have sha256 {sha256}; got {came}")
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
