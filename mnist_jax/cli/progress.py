"""Progress of training: a bar below the epochs' lines on a terminal, otherwise the lines alone."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from mnist_jax._utils.text import percent
from mnist_jax.cli import signals
from mnist_jax.cli.console import print_status

if TYPE_CHECKING:
    from mnist_jax.training.records import EpochRecord


class Progress(NamedTuple):
    """What a command shows while it works.

    Attributes:
        on_epoch: shows an epoch's record, and returns True once Ctrl-C was pressed.
        say: shows what is done after training.
    """

    on_epoch: "Callable[[EpochRecord], bool]"
    say: Callable[[str], None]


@contextmanager
def watch(total: int, done: int = 0) -> Iterator[Progress]:
    """Yields what shows the progress of a run.

    Args:
        total: number of epochs of the run.
        done: number of epochs before this call.
    """
    with _shown(total, done) as (show, say), signals.graceful() as stop_requested:

        def on_epoch(record: "EpochRecord") -> bool:
            show(record)
            return stop_requested()

        yield Progress(on_epoch, say)


@contextmanager
def _shown(
    total: int, done: int = 0
) -> "Iterator[tuple[Callable[[EpochRecord], None], Callable[[str], None]]]":
    """Yields functions that show an epoch's record, and a text, on stderr."""

    def line(record: "EpochRecord") -> str:
        return f"epoch {record.epoch}/{total}: {_text(record)}"

    if not sys.stderr.isatty():
        yield lambda record: print_status(line(record)), print_status
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs,")
    console = Console(stderr=True, highlight=False)
    with Bar(*columns, TimeRemainingColumn(), TextColumn("left"), console=console, transient=True) as bar:
        task = bar.add_task("compiling", total=total, completed=done)

        def show(record: "EpochRecord") -> None:
            bar.console.print(line(record), markup=False)
            bar.update(task, completed=record.epoch, description="training")

        yield show, lambda text: bar.update(task, description=text)


def _text(record: "EpochRecord") -> str:
    parts = [f"loss {record.loss:.4f}, accuracy {percent(record.accuracy)}"]
    if record.validation_accuracy is not None:
        parts.append(f"validation {percent(record.validation_accuracy)}")
    parts.append(f"{record.seconds:.2f} s")
    return ", ".join(parts)
