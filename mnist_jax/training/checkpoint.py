"""Checkpoints: a training state in one safetensors file, with JSON metadata and a checksum over both.

safetensors loads a file with flipped bits silently, so the metadata holds a SHA-256 of everything else,
which is verified on reading.
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

from mnist_jax._utils import param_dicts
from mnist_jax._utils.atomic_io import check_ordinary, parse_json, write_atomic
from mnist_jax._utils.nested_dicts import SEPARATOR
from mnist_jax.config.validation import shorten
from mnist_jax.errors import CheckpointError
from mnist_jax.training.state import TrainState

FORMAT = 2
# Bytes: above a state with two moments and an average of any network that fits protobuf's 2 GiB limit.
LARGEST = 2**34
PARAMS, EMA_PARAMS, MODEL_STATE, BEST = (
    f"{name}{SEPARATOR}" for name in ("params", "ema_params", "model_state", "memories/KeepBest/params")
)


def save(path: str | PathLike[str], state: TrainState, metadata: Mapping[str, Any]) -> None:
    """Writes a training state atomically.

    An existing file is kept as `previous_path(path)`.

    Args:
        path: the file to write, such as `checkpoint.safetensors`.
        state: the state to save.
        metadata: values that JSON can represent.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.

    Examples:
        >>> import tempfile, jax
        >>> from mnist_jax import MLP, Config, checkpoint, init_state
        >>> state = init_state(Config(MLP((4,), ("relu",))), jax.random.key(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint.save(f"{folder}/state.safetensors", state, {"note": "untrained"})
        ...     params, metadata = checkpoint.load_params(f"{folder}/state.safetensors")
        >>> params["Dense_0"]["kernel"].shape, metadata["note"]
        ((784, 4), 'untrained')
    """
    flat = _flatten(state)
    header = {**metadata, "format": FORMAT, "key_impl": str(jax.random.key_impl(state.key))}
    header["sha256"] = _digest(flat, header)
    data = safetensors.numpy.save(flat, {"mnist_jax": json.dumps(header)})
    write_atomic(Path(path), data, previous=previous_path(path))


def previous_path(path: str | PathLike[str]) -> Path:
    """Returns where `save` keeps the checkpoint before the last: `checkpoint.previous.safetensors`."""
    path = Path(path)
    return path.with_suffix(f".previous{path.suffix}")


def load(path: str | PathLike[str], skeleton: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Reads a training state and its metadata.

    Args:
        path: a file written by `save`.
        skeleton: a state of the expected structure, shapes and dtypes, such as `abstract_state(config)`. Its
            values and its key's PRNG implementation are ignored.

    Returns:
        The state, and the metadata passed to `save`, with the entries that `save` adds.

    Raises:
        CheckpointError: the file is damaged, has another format version or another structure, or holds
            parameters that are not finite.

    Examples:
        >>> import tempfile, jax
        >>> from mnist_jax import MLP, Config, checkpoint, init_state
        >>> state = init_state(Config(MLP((4,), ("relu",))), jax.random.key(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint.save(f"{folder}/state.safetensors", state, {"epoch": 0})
        ...     loaded, metadata = checkpoint.load(f"{folder}/state.safetensors", state)
        >>> metadata["epoch"], bool((loaded.key == state.key).all())
        (0, True)
    """
    flat, header = _read(path)
    kind = header.get("key_impl")
    try:  # the file names its key's PRNG implementation; the skeleton's may differ
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
        raise CheckpointError(f"{path} is a checkpoint of another model or optimizer: {odd} {verb}")
    for name, (_, leaf) in zip(names, expected, strict=True):
        array = flat[name]
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise CheckpointError(
                f"{path} is a checkpoint of another model: {name} must be {leaf.dtype}{list(leaf.shape)}; "
                f"got {array.dtype}{list(array.shape)}"
            )
    structure = jax.tree.structure(_untyped(skeleton))
    state: TrainState = jax.tree.unflatten(structure, [jax.numpy.asarray(flat[name]) for name in names])
    return state._replace(key=jax.random.wrap_key_data(state.key, impl=str(kind))), header


def load_params(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads only the parameters to evaluate and export, and the metadata.

    Returns:
        The state's `eval_params` as a nested dict of NumPy arrays, and the metadata.

    Raises:
        CheckpointError: the file is damaged, has another format version, or holds parameters that are not
            finite float32.
    """
    flat, header = _read(path)
    prefix = EMA_PARAMS if any(name.startswith(EMA_PARAMS) for name in flat) else PARAMS
    kept = any(name.startswith(BEST) for name in flat)
    params = {
        name[len(start) :]: flat[name]
        for start in ((BEST,) if kept else (prefix, MODEL_STATE))
        for name in flat
        if name.startswith(start)
    }
    try:
        return param_dicts.unflatten(params), header
    except (AttributeError, TypeError, IndexError):  # an array and a layer have the same name
        raise CheckpointError(f"{path} is damaged: its array names are not those of a network") from None


def _read(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads arrays and metadata, and verifies their checksum."""
    try:
        check_ordinary(path, LARGEST)
        with safetensors.safe_open(path, "np") as file:
            header = parse_json((file.metadata() or {})["mnist_jax"])
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        version, sha256 = header["format"], header["sha256"]
        digest = _digest(flat, header)
    except FileNotFoundError:  # safetensors raises it for unreadable files, too
        reason = "it cannot be read: Permission denied" if Path(path).exists() else "there is no such file"
        raise CheckpointError(f"{path} must be a checkpoint; {reason}") from None
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CheckpointError(
            f"{path} must be a checkpoint of mnist-jax; it cannot be read: {reason}"
        ) from None
    if type(version) is not int or version != FORMAT:
        raise CheckpointError(
            f"{path} must have format {FORMAT}; got {shorten(version)}, of another version of mnist-jax"
        )
    if digest != sha256:
        raise CheckpointError(
            f"{path} is damaged: its content must have sha256 {str(sha256)[:64]}; got {digest}"
        )
    for name, array in flat.items():
        if name.startswith((PARAMS, EMA_PARAMS, BEST)) and not (
            array.dtype == np.float32 and np.isfinite(array).all()
        ):
            raise CheckpointError(
                f"{path} must hold finite float32 parameters; got others in {shorten(name)}, {array.dtype}; "
                "train again, with a smaller learning rate if that diverged"
            )
    return flat, header


def _digest(flat: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of arrays and metadata, without the metadata's own `sha256`."""
    rest = json.dumps({name: header[name] for name in header if name != "sha256"}, sort_keys=True)
    return hashlib.sha256(f"{param_dicts.digest(flat)} {rest}".encode()).hexdigest()


def _untyped(state: TrainState) -> TrainState:
    """Returns the state with its key as plain integers, which a file can hold."""
    if isinstance(state.key, jax.ShapeDtypeStruct):
        return state._replace(key=jax.eval_shape(jax.random.key_data, state.key))
    return state._replace(key=jax.random.key_data(state.key))


def _flatten(state: TrainState) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(_untyped(state))[0]
    return {_name(key_path): np.asarray(leaf) for key_path, leaf in leaves}


def _name(key_path: Any) -> str:
    return jax.tree_util.keystr(key_path, simple=True, separator=SEPARATOR)
