"""Epochs as they pass: a bar on a terminal, a line each elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mnist_jax.cli.console import note, percent

if TYPE_CHECKING:
    from mnist_jax.loop import EpochRecord


@contextmanager
def epochs(total: int, done: int = 0) -> Iterator[Callable[["EpochRecord"], None]]:
    """Gives a function that shows an epoch's record, on stderr; `done` epochs are behind it already."""
    if not sys.stderr.isatty():
        yield lambda record: note(f"epoch {record.epoch}/{total}: {_text(record)}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("epoch"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("compiling", total=total, completed=done)
        yield lambda record: progress.update(task, completed=record.epoch, description=_text(record))


def _text(record: "EpochRecord") -> str:
    parts = [f"loss {record.loss:.4f}, accuracy {percent(record.accuracy)}"]
    if record.validation_accuracy is not None:
        parts.append(f"validation {percent(record.validation_accuracy)}")
    parts.append(f"{record.seconds:.2f} s")
    return ", ".join(parts)
