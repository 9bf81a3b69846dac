"""The rows of a sweep: trained, kept in its directory as they come, and read back where it was stopped."""

import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax import runs
from mnist_jax.cli import console, experiment
from mnist_jax.errors import RunError, SpecError
from mnist_jax.files import write_atomic
from mnist_jax.specs import Config, Hyper
from mnist_jax.swept import SWEEP, rows_from_json

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset
    from mnist_jax.loop import EpochRecord


def complete(
    folder: Path, run: runs.Run, combinations: list[Hyper], seeds: int, data: "Dataset", started: float
) -> dict[str, Any]:
    """The content of `sweep.json`, once it has a row for each combination and the best of them.

    It is written before the first training, and with each rows that come; those that it has are kept.

    Raises:
        SpecError: no run has stayed within the finite numbers.
        RunError: the file is another sweep's.
    """
    settings = runs.to_json(run)
    del settings["hyper"], settings["seed"]
    tried = {
        name: list(dict.fromkeys(getattr(hyper, name) for hyper in combinations)) for name in Hyper._fields
    }
    asked = {**settings, "seeds": seeds, **tried}
    rows, before = _kept(folder, asked, combinations)
    found: dict[str, Any] = {"format": 1, "asked": asked, "seeds": seeds}

    def keep(best: int | None = None) -> None:
        seconds = round(before + time.perf_counter() - started, 3)
        found.update({"seconds": seconds, "best": best, "rows": rows})
        write_atomic(folder / SWEEP, (json.dumps(found, indent=2) + "\n").encode())

    try:
        if len(rows) < len(combinations):
            keep()
        for more in _train(run.config, combinations, seeds, data, len(rows)):
            rows += more
            keep()
        finite = [index for index, row in enumerate(rows) if row["mean"] is not None]
        if not finite:
            rows.clear()
            largest = max(hyper.learning_rate for hyper in combinations)
            raise SpecError(
                f"some run must stay within the finite numbers; none did, at learning rates up to {largest:g}"
            )
        keep(max(finite, key=lambda index: rows[index]["mean"]))
    except BaseException:
        if not rows:
            (folder / SWEEP).unlink(missing_ok=True)
        raise
    return found


def _kept(
    folder: Path, asked: dict[str, Any], combinations: list[Hyper]
) -> tuple[list[dict[str, Any]], float]:
    """The rows that a stopped sweep has left in a directory, and the seconds that they took.

    Raises:
        RunError: it is another sweep's, or damaged.
    """
    if not (folder / SWEEP).exists():
        return [], 0.0
    values = runs.read_json(folder, SWEEP)
    theirs, ours = experiment.flat(values.get("asked")), experiment.flat(asked)
    for name in ours:
        if theirs.get(name) != ours[name]:
            raise RunError(
                f"{folder} has a sweep with {name} {theirs.get(name)!r}; got {ours[name]!r}; "
                "name another directory"
            )
    try:
        kept = rows_from_json(values)
        if [row.hyper for row in kept] != combinations[: len(kept)]:
            raise ValueError("its rows must be the first of those that were asked for")
        shares = [[None if math.isnan(share) else share for share in row.accuracies] for row in kept]
        return [_row(row.hyper, found) for row, found in zip(kept, shares, strict=True)], values[
            "seconds"
        ] + 0.0
    except KeyError as error:
        raise RunError(f"{folder / SWEEP} is damaged: it lacks {error}") from None
    except (TypeError, ValueError, SpecError) as error:
        raise RunError(f"{folder / SWEEP} is damaged: {error}") from None


def _train(
    config: Config, combinations: list[Hyper], seeds: int, data: "Dataset", done: int
) -> Iterator[list[dict[str, Any]]]:
    """A row for each combination but the first that are done: its numbers, and what its runs reached.

    So many rows at a time as are trained at once: from where a stopped sweep goes on, each run has the same
    neighbors as it would have had, and its numbers are the same to the last bit.
    """
    from mnist_jax.sweep import suitable

    count = len(combinations) * seeds
    console.note(f"{count} runs of {config.model}, epochs each: {config.epochs}")
    if done:
        console.note(f"{done * seeds} of them are done")
    at_once = max(1, suitable(config) // seeds)
    for first in range(done, len(combinations), at_once):
        taken = combinations[first : first + at_once]
        yield _train_together(config, taken, seeds, data, first * seeds, count)


def _train_together(
    config: Config, combinations: list[Hyper], seeds: int, data: "Dataset", before: int, count: int
) -> list[dict[str, Any]]:
    """The rows of some combinations, before whose runs there are others, of so many in all."""
    import jax
    import numpy as np

    from mnist_jax.sweep import fit_many, suitable

    keys = jax.vmap(jax.random.key)(np.tile(np.arange(seeds, dtype=np.uint32), len(combinations)))
    hyper = Hyper(*(np.repeat(column, seeds) for column in zip(*combinations, strict=True)))

    def after_epoch(first: int, records: "Sequence[EpochRecord]") -> None:
        accuracies = [record.validation_accuracy or 0.0 for record in records]
        runs_now = f"runs {before + first + 1} to {before + first + len(records)} of {count}"
        reached = f"{console.percent(min(accuracies))} to {console.percent(max(accuracies))}"
        console.note(f"{runs_now}, epoch {records[0].epoch}/{config.epochs}: validation {reached}")

    groups = math.ceil(len(keys) / suitable(config))
    at_once = math.ceil(len(keys) / groups)  # equal groups, of which none is padded by more than a run each
    many = fit_many(
        config, data.train, data.validation, keys=keys, hyper=hyper, at_once=at_once, callback=after_epoch
    )
    last = [history[-1] for history in many.histories]
    rows = []
    for index, numbers in enumerate(combinations):
        mine = last[index * seeds : (index + 1) * seeds]
        accuracies = [
            record.validation_accuracy
            if math.isfinite(record.loss) and math.isfinite(record.validation_loss or 0.0)
            else None
            for record in mine
        ]
        rows.append(_row(numbers, accuracies))
    return rows


def _row(hyper: Hyper, accuracies: list[float | None]) -> dict[str, Any]:
    """A combination and its runs; where one has diverged, there is no mean."""
    good = [accuracy for accuracy in accuracies if accuracy is not None]
    whole = len(good) == len(accuracies)
    return {
        **hyper._asdict(),
        "accuracies": accuracies,
        "mean": statistics.fmean(good) if whole else None,
        "std": statistics.stdev(good) if whole and len(good) > 1 else None,
    }
