"""The sweep that a run was chosen by, read back from its directory."""

import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from mnist_jax import directories
from mnist_jax.errors import RunError, SpecError
from mnist_jax.results import figure
from mnist_jax.runs import read_json
from mnist_jax.specs import Hyper, hyper_from_json

SWEEP = directories.SWEEP


class SweptRow(NamedTuple):
    """What the runs of one combination of numbers reached.

    Attributes:
        hyper: the numbers.
        accuracies: on the validation set, of each run; NaN where it left the finite numbers.
    """

    hyper: Hyper
    accuracies: tuple[float, ...]

    @property
    def diverged(self) -> int:
        """How many runs left the finite numbers."""
        return sum(map(math.isnan, self.accuracies))

    @property
    def mean(self) -> float:
        """Of the accuracies; NaN where one is."""
        return statistics.fmean(self.accuracies)


class Swept(NamedTuple):
    """The sweep that a run was chosen by: its rows, and which of them was best."""

    rows: tuple[SweptRow, ...]
    best: int


def read_sweep(folder: Path) -> Swept | None:
    """The sweep that a run was chosen by, if it was.

    Raises:
        RunError: its file is damaged.
    """
    if not (folder / SWEEP).exists():
        return None
    values = read_json(folder, SWEEP)
    try:
        return sweep_from_json(values)
    except KeyError as error:
        raise RunError(f"{folder / SWEEP} is damaged: it lacks {error}") from None
    except (TypeError, ValueError, SpecError) as error:
        raise RunError(f"{folder / SWEEP} is damaged: {error}") from None


def sweep_from_json(values: Any) -> Swept:
    """A sweep from plain values.

    Raises:
        KeyError, TypeError, ValueError, SpecError: they are not a sweep's, or one's that was stopped.
    """
    rows = rows_from_json(values)
    best = values["best"]
    whole = [row.mean for row in rows if not row.diverged]
    if type(best) is not int or not 0 <= best < len(rows) or not whole or rows[best].mean != max(whole):
        raise ValueError(f"its best row must be the one with the highest mean; got {best!r}")
    return Swept(rows, best)


def rows_from_json(values: Any) -> tuple[SweptRow, ...]:
    """The rows of a sweep from plain values, so many as there are.

    Raises:
        KeyError, TypeError, ValueError, SpecError: they are not a sweep's.
    """
    if values["format"] != 1:
        raise ValueError(f"it must be of format 1; got {values['format']!r}")
    return tuple(_swept(row, values["seeds"]) for row in values["rows"])


def _swept(row: Any, seeds: Any) -> SweptRow:
    accuracies = row["accuracies"]
    if not isinstance(accuracies, list) or not accuracies or len(accuracies) != seeds:
        raise ValueError(f"each row must have {seeds!r} accuracies; got {accuracies!r}")
    shares = tuple(math.nan if share is None else figure(share) for share in accuracies)
    if any(share > 1 for share in shares):
        raise ValueError(f"an accuracy must be at most 1; got {accuracies!r}")
    return SweptRow(hyper_from_json({name: row[name] for name in Hyper._fields}), shares)
