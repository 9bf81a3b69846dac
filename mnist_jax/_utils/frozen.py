"""Frozen dataclasses that normalize their fields."""

from collections.abc import Callable
from typing import Any


def set_fields(instance: Any, **values: Any) -> None:
    """Sets fields of a frozen dataclass instance, from its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


class converted[Given, Kept]:  # noqa: N801, it is used like a function
    """A field of a frozen dataclass that converts what it is given, such as a name to an `Optimizer`.

    A descriptor, so that type checkers know both types: that of the argument and that of the attribute.

    Args:
        default: the field's default.
        convert: converts a given value; leaves a converted one unchanged.
    """

    def __init__(self, default: Kept, convert: Callable[[Given | Kept], Kept]) -> None:
        self._default, self._convert = default, convert

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: object | None, owner: type) -> Kept:
        kept: Kept = self._default if instance is None else getattr(instance, self._name)
        return kept

    def __set__(self, instance: object, value: Given | Kept) -> None:
        object.__setattr__(instance, self._name, self._convert(value))
