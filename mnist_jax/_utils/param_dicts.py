"""Params as NumPy arrays by path: flattened, rebuilt, hashed. No JAX."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_jax._utils.nested_dicts import SEPARATOR, flatten_dict


def flatten(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Flattens params to NumPy arrays: `{"Dense_0": {"kernel": k}}` becomes `{"Dense_0/kernel": k}`."""
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(tree).items()}


def unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Rebuilds the nested dict that `flatten` was called with."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *outer, last = path.split(SEPARATOR)
        node = tree
        for name in outer:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


def digest(flat: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of named arrays: names, dtypes, shapes and values, in any order."""
    total = hashlib.sha256()
    for name in sorted(flat):
        array = np.ascontiguousarray(flat[name])
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()
