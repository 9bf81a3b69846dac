"""Checks of single settings: a count, a number in its range, a name with its options."""

import math
import operator
from collections.abc import Mapping
from typing import Any, TypeGuard

from mnist_jax.errors import SpecError

FLOAT32_MAX, FLOAT32_TINY = 3.4e38, 1e-37
INT32_MAX = 2**31 - 1
LONGEST_LABEL = 200

Option = float | bool | tuple[float, ...]
Options = tuple[tuple[str, Option], ...]


def check_one_of(what: str, value: object, known: tuple[str, ...]) -> None:
    """Checks a name.

    Raises:
        SpecError: it is not one of those that are known.
    """
    if not isinstance(value, str) or value not in known:
        raise SpecError(f"{what} must be one of {', '.join(known)}; got {value!r}")


def is_label(value: object) -> TypeGuard[str]:
    """Whether it is a text that a terminal can show in a line: printable, and of 1 to 200 characters.

    Escape sequences, line ends and halves of characters are not printable.
    """
    return isinstance(value, str) and 0 < len(value) <= LONGEST_LABEL and value.isprintable()


def shorten(value: object, most: int = 200) -> str:
    """What a message can quote of any value: as Python writes it, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def check_whole(what: str, value: Any) -> int:
    """A count as a plain `int`.

    Raises:
        SpecError: it is not a whole number of at least 1, or past the counts of an int32.
    """
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if not 1 <= count <= INT32_MAX:
        bound = "at most 2,147,483,647" if count > 1 else "at least 1"
        raise SpecError(f"{what} must be a whole number of {bound}; got {value!r}")
    return count


def check_real(what: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    """A number as a plain `float`: `low <= value < high` (`low < value` where that end is open), not NaN.

    Raises:
        SpecError: it is another, or none.
    """
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (low < number if open_low else low <= number) or not number < high:
        bound = f"a number below {high:g}" if high <= 1 or number >= high else "a number"
        raise SpecError(f"{what} must be {bound}, {'above' if open_low else 'at least'} {low}; got {value!r}")
    return number


def check_options(name: str, known: Mapping[str, Option], given: Any) -> Options:
    """The options of a named choice, in order, with the defaults of those that are not given.

    An option is of its default's kind: a flag, a number in 0..1, or several of these.

    Raises:
        SpecError: there is no such option, or its value is none that it can have.
    """
    try:
        values = dict(given)
    except (TypeError, ValueError):
        raise SpecError(f"{name} must have its options as a mapping; got {given!r}") from None
    for option in values:
        if option not in known:
            has = f"must have options among {', '.join(known)}" if known else "has no options"
            raise SpecError(f"{name} {has}; got {option!r}")
    return tuple((option, _option(f"{name}'s {option}", known[option], values)) for option in known)


def _option(what: str, default: Option, values: Mapping[str, Any]) -> Option:
    value = values.get(what.rpartition(" ")[2], default)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise SpecError(f"{what} must be true or false; got {value!r}")
        return value
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not value:
            raise SpecError(f"{what} must be one or more numbers below 1; got {value!r}")
        return tuple(check_real(what, number, 0, 1) for number in value)
    return check_real(what, value, 0, 1)


def show(name: str, known: Mapping[str, Option], options: Options) -> str:
    """A named choice as the command line takes it: `sgd:momentum=0.9`; defaults are left out."""
    changed = [f"{option}={_text(value)}" for option, value in options if value != known[option]]
    return name + ":" * bool(changed) + ",".join(changed)


def _text(value: Option) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return number(value)


def number(value: float) -> str:
    """As short as it can be written without losing anything."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
