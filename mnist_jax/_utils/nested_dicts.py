"""Nested dicts, flattened."""

from collections.abc import Mapping
from typing import Any

SEPARATOR = "/"


def flatten_dict(tree: Mapping[str, Any], separator: str = SEPARATOR) -> dict[str, Any]:
    """Flattens a nested dict: `{"config": {"epochs": 3}}` becomes `{"config/epochs": 3}`.

    Args:
        tree: a nested dict. An empty inner dict leaves no entry.
        separator: joins the names of each path.

    Returns:
        The leaves by their paths, in order.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            inner = flatten_dict(value, separator)
            flat |= {f"{name}{separator}{path}": leaf for path, leaf in inner.items()}
        else:
            flat[str(name)] = value
    return flat
