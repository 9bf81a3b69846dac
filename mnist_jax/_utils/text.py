"""Formatting of numbers, tables and untrusted text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MAX_LINE_LENGTH = 2000


def printable(text: str) -> str:
    """Makes text safe to print on a terminal: escapes control characters, truncates long text."""
    shown = text if len(text) <= MAX_LINE_LENGTH else f"{text[:MAX_LINE_LENGTH]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)


def percent(fraction: float) -> str:
    """Formats a fraction: `0.9782` becomes `97.82 %`."""
    return f"{100 * fraction:.2f} %"


def mean_and_std(mean: float, std: float | None) -> str:
    """Formats a mean and its standard deviation, if any, as `97.82 ± 0.05 %`."""
    return percent(mean) if std is None else f"{100 * mean:.2f} ± {100 * std:.2f} %"


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces numbers that are not finite, which JSON cannot represent, by None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table, one line per row, with a final newline."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
