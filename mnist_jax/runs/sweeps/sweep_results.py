"""Sweep results, read and validated from `sweep.json`."""

import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from mnist_jax.config.serialization import hyperparams_from_json
from mnist_jax.config.training import HyperParams
from mnist_jax.errors import RunError, SpecError
from mnist_jax.runs import locking
from mnist_jax.runs.directory import read_json
from mnist_jax.runs.results import figure

SWEEP, FORMAT = locking.SWEEP, 2


class SweepRow(NamedTuple):
    """Results of one combination of hyperparameters.

    Attributes:
        hyperparams: the combination.
        accuracies: validation accuracy of each run; NaN for a diverged run.
    """

    hyperparams: HyperParams
    accuracies: tuple[float, ...]

    @property
    def diverged(self) -> int:
        """The number of runs that diverged."""
        return sum(map(math.isnan, self.accuracies))

    @property
    def mean(self) -> float:
        """The mean accuracy; NaN if a run diverged."""
        return statistics.fmean(self.accuracies)


class SweepTable(NamedTuple):
    """The sweep that selected a run.

    Attributes:
        rows: one per combination of hyperparameters.
        best: index of the row with the highest mean accuracy.
    """

    rows: tuple[SweepRow, ...]
    best: int


def read_sweep_table(folder: Path) -> SweepTable | None:
    """Reads the sweep that selected a run; None if there is none.

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


def sweep_from_json(values: Any) -> SweepTable:
    """Creates a finished sweep from plain values.

    Raises:
        KeyError, TypeError, ValueError, SpecError: the values are invalid, or the sweep was stopped.
    """
    rows = rows_from_json(values)
    best = values["best"]
    whole = [row.mean for row in rows if not row.diverged]
    if type(best) is not int or not 0 <= best < len(rows) or not whole or rows[best].mean != max(whole):
        raise ValueError(f"its best row must be the one with the highest mean; got {best!r}")
    return SweepTable(rows, best)


def rows_from_json(values: Any) -> tuple[SweepRow, ...]:
    """Creates the rows of a finished or stopped sweep from plain values.

    Raises:
        KeyError, TypeError, ValueError, SpecError: the values are invalid.
    """
    if values["format"] != FORMAT:
        raise ValueError(f"it must have format {FORMAT}; got {values['format']!r}")
    return tuple(_row_from_json(row, values["seeds"]) for row in values["rows"])


def _row_from_json(row: Any, seeds: Any) -> SweepRow:
    accuracies = row["accuracies"]
    if not isinstance(accuracies, list) or not accuracies or len(accuracies) != seeds:
        raise ValueError(f"each row must have {seeds!r} accuracies; got {accuracies!r}")
    values = tuple(math.nan if value is None else figure(value) for value in accuracies)
    if any(value > 1 for value in values):
        raise ValueError(f"an accuracy must be at most 1; got {accuracies!r}")
    return SweepRow(hyperparams_from_json({name: row[name] for name in HyperParams._fields}), values)
