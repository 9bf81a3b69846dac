"""Progress of training: a bar on a terminal, otherwise one line per epoch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mnist_jax._utils.text import percent
from mnist_jax.cli import signals
from mnist_jax.cli.console import print_status

if TYPE_CHECKING:
    from mnist_jax.training.records import EpochRecord


@contextmanager
def watch(total: int, done: int = 0) -> Iterator[Callable[["EpochRecord"], bool]]:
    """Yields a callback that shows an epoch's record, and returns True once Ctrl-C was pressed.

    Args:
        total: number of epochs of the run.
        done: number of epochs before this call.
    """
    with _epochs(total, done) as show, signals.graceful() as stop_requested:

        def on_epoch(record: "EpochRecord") -> bool:
            show(record)
            return stop_requested()

        yield on_epoch


@contextmanager
def _epochs(total: int, done: int = 0) -> Iterator[Callable[["EpochRecord"], None]]:
    """Yields a function that shows an epoch's record on stderr."""
    if not sys.stderr.isatty():
        yield lambda record: print_status(f"epoch {record.epoch}/{total}: {_text(record)}")
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
