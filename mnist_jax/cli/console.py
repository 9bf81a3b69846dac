"""What commands print: results on stdout, everything said on the way on stderr."""

import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

LONGEST_LINE = 2000

if TYPE_CHECKING:
    from rich.console import Console


def plain(text: str) -> str:
    """A text as one line that a terminal can show: what would steer it is spelled out, the rest cut off."""
    shown = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"mnist-jax: {plain(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201


def note(message: str) -> None:
    """A line on stderr, for what a person should know and a program should not read."""
    print(plain(message), file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any) -> None:
    """A result for programs, on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201


def results() -> "Console":
    """Where tables for people go: folded to the terminal, but not in a file or a pipe."""
    from rich.console import Console

    return Console(
        highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200
    )


def percent(share: float) -> str:
    """`0.9782` as `97.82 %`."""
    return f"{100 * share:.2f} %"


def spread(mean: float, std: float | None) -> str:
    """A mean and its standard deviation, where there is one, as `97.82 ± 0.05 %`."""
    return percent(mean) if std is None else f"{100 * mean:.2f} ± {100 * std:.2f} %"


def score(scores: Mapping[str, Any]) -> str:
    """Accuracy, counts and loss in one line."""
    right = round(scores["accuracy"] * scores["n"])
    return f"{percent(scores['accuracy'])} ({right:,} of {scores['n']:,}), loss {scores['loss']:.4f}"


def proof(onnx: Mapping[str, Any]) -> str:
    """A parity result in one line."""
    exact = {"int8-static": "answers like JAX"}.get(onnx.get("precision", ""), "equals JAX")
    verdict = exact if onnx["passed"] else "DIFFERS FROM JAX"
    largest = onnx["max_abs_difference"]
    return (
        f"{verdict}: {onnx['n']:,} images and {onnx['noise']:,} of noise, "
        f"{onnx['disagreements']} other answers, largest difference "
        f"{'not a number' if largest is None else f'{largest:.1e}'}"
    )


def line(name: str, text: str) -> None:
    """A named result, on stdout."""
    print(f"{name:10} {plain(text)}")  # noqa: T201


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with None where a number is not finite, which JSON can't say."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
