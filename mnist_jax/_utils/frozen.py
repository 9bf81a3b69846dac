"""Frozen dataclasses that normalize their fields in `__post_init__`."""

from typing import Any


def set_fields(instance: Any, **values: Any) -> None:
    """Sets fields of a frozen dataclass instance, from its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)
