"""A network's parameters outside JAX: nested dicts of NumPy arrays, their names and their sum."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

SEPARATOR = "/"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """`{"Dense_0": {"kernel": k}}` to `{"Dense_0/kernel": k}`."""
    flat: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}{SEPARATOR}")
        else:
            flat[f"{prefix}{name}"] = np.asarray(value)
    return flat


def unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *outer, last = path.split(SEPARATOR)
        node = tree
        for name in outer:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


def digest(flat: Mapping[str, np.ndarray]) -> str:
    """The sha256 of named arrays: names, dtypes, shapes and values, whatever their order."""
    total = hashlib.sha256()
    for name in sorted(flat):
        array = np.ascontiguousarray(flat[name])
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()
