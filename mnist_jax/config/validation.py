"""Validation of single settings: counts, numbers in a range, names with options."""

import math
import operator
from collections.abc import Mapping
from typing import Any, TypeGuard

from mnist_jax.errors import SpecError

FLOAT32_MAX, FLOAT32_TINY = 3.4e38, 1e-37
INT32_MAX = 2**31 - 1
MAX_LABEL_LENGTH = 200

Option = float | bool | tuple[float, ...]
Options = tuple[tuple[str, Option], ...]


def check_choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that `value` is one of `choices`; `what` names it in the error.

    Raises:
        SpecError: if it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise SpecError(f"{what} must be one of {', '.join(choices)}; got {value!r}")


def is_label(value: object) -> TypeGuard[str]:
    """Whether `value` is a string of 1 to 200 printable characters, fit for one line of a terminal.

    Escape sequences, line breaks and lone surrogates are not printable.
    """
    return isinstance(value, str) and 0 < len(value) <= MAX_LABEL_LENGTH and value.isprintable()


def shorten(value: object, max_length: int = 200) -> str:
    """The `repr` of any value, truncated to `max_length` characters, for error messages."""
    text = repr(value)
    return text if len(text) <= max_length else f"{text[:max_length]}..."


def as_tuple(instance: Any, field: str) -> tuple[Any, ...]:
    """A field as a tuple: JSON and users supply lists, but a spec must be hashable.

    Raises:
        SpecError: if the field is neither a list nor a tuple.
    """
    value = getattr(instance, field)
    if not isinstance(value, list | tuple):
        raise SpecError(f"{field} must be a tuple with one entry per layer; got {value!r}")
    return tuple(value)


def check_positive_int(what: str, value: Any) -> int:
    """Return `value` as a plain `int`; `what` names it in the error.

    Raises:
        SpecError: if it is not a whole number from 1 to 2**31 - 1.
    """
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if not 1 <= count <= INT32_MAX:
        bound = "at most 2,147,483,647" if count > 1 else "at least 1"
        raise SpecError(f"{what} must be a whole number of {bound}; got {value!r}")
    return count


def check_float(what: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    """Return `value` as a plain `float`; `what` names it in the error.

    Args:
        what: name of the value in the error message.
        value: any value.
        low: lower bound, inclusive unless `open_low`.
        high: upper bound, exclusive.
        open_low: whether the lower bound is exclusive.

    Returns:
        The value as a `float` within the bounds.

    Raises:
        SpecError: if the value is out of range, NaN or not a number.
    """
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (low < number if open_low else low <= number) or not number < high:
        bound = f"a number below {high:g}" if high <= 1 or number >= high else "a number"
        raise SpecError(f"{what} must be {bound}, {'above' if open_low else 'at least'} {low}; got {value!r}")
    return number


def check_options(name: str, defaults: Mapping[str, Option], options: Any) -> Options:
    """Validate the options of an optimizer or schedule and fill in the defaults.

    An option has the type of its default: a flag, a number in [0, 1), or a tuple of such numbers.

    Args:
        name: the optimizer or schedule.
        defaults: every option that it has, with its default.
        options: a mapping of the options that differ from their defaults.

    Returns:
        All options as `(name, value)` pairs, in the order of `defaults`.

    Raises:
        SpecError: if an option is unknown or its value is invalid.
    """
    try:
        values = dict(options)
    except (TypeError, ValueError):
        raise SpecError(f"{name}'s options must be a mapping; got {options!r}") from None
    for option in values:
        if option not in defaults:
            has = f"must have options among {', '.join(defaults)}" if defaults else "has no options"
            raise SpecError(f"{name} {has}; got {option!r}")
    return tuple((option, _option(f"{name}'s {option}", defaults[option], values)) for option in defaults)


def _option(what: str, default: Option, values: Mapping[str, Any]) -> Option:
    value = values.get(what.rpartition(" ")[2], default)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise SpecError(f"{what} must be true or false; got {value!r}")
        return value
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not value:
            raise SpecError(f"{what} must be one or more numbers below 1; got {value!r}")
        return tuple(check_float(what, number, 0, 1) for number in value)
    return check_float(what, value, 0, 1)


def show(name: str, defaults: Mapping[str, Option], options: Options) -> str:
    """The command-line form of an optimizer or schedule, without defaults: `sgd:momentum=0.9`."""
    changed = [f"{option}={_text(value)}" for option, value in options if value != defaults[option]]
    return name + ":" * bool(changed) + ",".join(changed)


def _text(value: Option) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return number(value)


def number(value: float) -> str:
    """The shortest decimal form that converts back to the same float."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def parse_pairs(text: str, form: str, whole: str) -> dict[str, Option | str]:
    """Parse options such as `momentum=0.9,nesterov=true`.

    Args:
        text: the options.
        form: what must hold, for the error message.
        whole: the text that they are part of, for the error message.

    Returns:
        Each option's value: a flag, a number, a tuple of numbers, or else the text.

    Raises:
        SpecError: if it has another form, or an option is given twice.
    """
    pairs = [pair.split("=") for pair in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise SpecError(f"{form}; got {whole!r}")
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise SpecError(f"each option must be given only once; got {whole!r}")
    return {name: _parsed(value) for name, value in pairs}


def _parsed(text: str) -> Option | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return tuple(map(float, text.split("/"))) if "/" in text else float(text)
    except ValueError:
        return text  # the option's own check rejects it, with its name
