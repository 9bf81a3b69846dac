"""What commands print: results on stdout, everything said on the way on stderr."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"mnist-jax: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201


def note(message: str) -> None:
    """A line on stderr, for what a person should know and a program should not read."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any) -> None:
    """A result for programs, on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201


def results() -> "Console":
    """Where tables for people go: folded to the terminal, but not in a file or a pipe."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def percent(share: float) -> str:
    """`0.9782` as `97.82 %`."""
    return f"{100 * share:.2f} %"


def score(scores: Mapping[str, Any]) -> str:
    """Accuracy, counts and loss in one line."""
    right = round(scores["accuracy"] * scores["n"])
    return f"{percent(scores['accuracy'])} ({right:,} of {scores['n']:,}), loss {scores['loss']:.4f}"
