"""A sweep in its directory: training the rows, saving each, and resuming a stopped sweep."""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax._utils.text import percent
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.errors import RunError, SpecError
from mnist_jax.runs import directory, loading
from mnist_jax.runs.sweeps.sweep_results import FORMAT, SWEEP, rows_from_json

if TYPE_CHECKING:
    import jax

    from mnist_jax.data.datasets import Dataset
    from mnist_jax.training.records import EpochRecord


def complete(
    folder: Path,
    run: directory.Run,
    combinations: list[HyperParams],
    seeds: int,
    data: "Dataset",
    started: float,
    devices: "Sequence[jax.Device] | None" = None,
    *,
    print_status: Callable[[str], None],
) -> dict[str, Any]:
    """Trains a sweep's missing rows; writes `sweep.json` before the first and after each group of rows.

    Of several processes all take part, and the first reads and writes.

    Args:
        folder: the sweep's directory, locked by the first process.
        run: the configuration that all runs share.
        combinations: one row each.
        seeds: number of runs per row: seeds 0 to `seeds - 1`.
        data: the data set, with a validation set.
        started: `time.perf_counter()` at the start of the command.
        devices: the devices that share the runs out; None for JAX's default one.
        print_status: called with progress messages.

    Returns:
        The content of `sweep.json`, with all rows and the index of the best.

    Raises:
        SpecError: a run of every row diverged.
        RunError: the file belongs to another sweep, or is damaged.
    """
    from mnist_jax.parallel.processes import is_main, on_main

    settings = directory.to_json(run)
    del settings["hyperparams"], settings["seed"]
    grid = {
        name: list(dict.fromkeys(getattr(hyperparams, name) for hyperparams in combinations))
        for name in HyperParams._fields
    }
    request = {**settings, "seeds": seeds, **grid}
    rows, before = on_main(lambda: _saved_rows(folder, request, combinations))
    content: dict[str, Any] = {"format": FORMAT, "request": request, "seeds": seeds}

    def save(best: int | None = None) -> None:
        seconds = round(before + time.perf_counter() - started, 3)
        content.update({"seconds": seconds, "best": best, "rows": rows})
        if is_main():
            write_atomic(folder / SWEEP, (json.dumps(content, indent=2) + "\n").encode())

    try:
        if len(rows) < len(combinations):
            save()
        for group in _train(run.config, combinations, seeds, data, len(rows), devices, print_status):
            rows += group
            save()
        finite = [index for index, row in enumerate(rows) if row["mean"] is not None]
        if not finite:
            rows.clear()
            largest = max(hyperparams.learning_rate for hyperparams in combinations)
            raise SpecError(f"some run must stay finite; all diverged, at learning rates up to {largest:g}")
        save(max(finite, key=lambda index: rows[index]["mean"]))
    except BaseException:
        if not rows and is_main():
            (folder / SWEEP).unlink(missing_ok=True)
        raise
    return content


def _saved_rows(
    folder: Path, request: dict[str, Any], combinations: list[HyperParams]
) -> tuple[list[dict[str, Any]], float]:
    """Reads the rows that a stopped sweep saved, and the seconds that they took.

    Raises:
        RunError: they belong to another sweep, or the file is damaged.
    """
    if not (folder / SWEEP).exists():
        return [], 0.0
    values = directory.read_json(folder, SWEEP)
    theirs, ours = loading.flatten_json(values.get("request")), loading.flatten_json(request)
    for name in ours:
        if theirs.get(name) != ours[name]:
            raise RunError(
                f"{folder} has a sweep with {name} {theirs.get(name)!r}; got {ours[name]!r}; "
                "choose another directory"
            )
    try:
        saved = rows_from_json(values)
        if [row.hyperparams for row in saved] != combinations[: len(saved)]:
            raise ValueError("its rows must be the first of the sweep's combinations")
        rows = []
        for row in saved:
            accuracies = [None if math.isnan(value) else value for value in row.accuracies]
            rows.append(_row(row.hyperparams, accuracies))
        return rows, values["seconds"] + 0.0
    except KeyError as error:
        raise RunError(f"{folder / SWEEP} is damaged: it lacks {error}") from None
    except (TypeError, ValueError, SpecError) as error:
        raise RunError(f"{folder / SWEEP} is damaged: {error}") from None


def _train(
    config: Config,
    combinations: list[HyperParams],
    seeds: int,
    data: "Dataset",
    done: int,
    devices: "Sequence[jax.Device] | None",
    print_status: Callable[[str], None],
) -> Iterator[list[dict[str, Any]]]:
    """Trains the rows after the first `done`, and yields them group by group.

    The groups do not depend on `done`: when a stopped sweep is resumed, each run is trained together with the
    same runs, and its results are bit-identical.
    """
    from mnist_jax.training.sweep import default_group_size

    count = len(combinations) * seeds
    print_status(f"{count} runs of {config.model}, epochs each: {config.epochs}")
    if done:
        print_status(f"{done * seeds} of them are already done")
    number = 1 if devices is None else len(devices)
    group_size = max(1, default_group_size(config) * number // seeds)
    for first in range(done, len(combinations), group_size):
        group = combinations[first : first + group_size]
        yield _train_together(config, group, seeds, data, first * seeds, count, devices, print_status)


def _train_together(
    config: Config,
    combinations: list[HyperParams],
    seeds: int,
    data: "Dataset",
    before: int,
    count: int,
    devices: "Sequence[jax.Device] | None",
    print_status: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Trains some combinations' rows together; `before` runs of `count` precede them."""
    import jax
    import numpy as np

    from mnist_jax.training.sweep import default_group_size, fit_many

    keys = jax.vmap(jax.random.key)(np.tile(np.arange(seeds, dtype=np.uint32), len(combinations)))
    hyperparams = HyperParams(*(np.repeat(column, seeds) for column in zip(*combinations, strict=True)))

    def after_epoch(first: int, records: "Sequence[EpochRecord]") -> None:
        accuracies = [record.validation_accuracy or 0.0 for record in records]
        indices = f"runs {before + first + 1} to {before + first + len(records)} of {count}"
        scores = f"{percent(min(accuracies))} to {percent(max(accuracies))}"
        print_status(f"{indices}, epoch {records[0].epoch}/{config.epochs}: validation {scores}")

    of_device = math.ceil(len(keys) / (1 if devices is None else len(devices)))
    groups = math.ceil(of_device / default_group_size(config))
    group_size = math.ceil(of_device / groups)  # equal groups need the least padding
    result = fit_many(
        config,
        data.train,
        data.validation,
        keys=keys,
        hyperparams=hyperparams,
        group_size=group_size,
        callback=after_epoch,
        devices=devices,
    )
    last = [history[-1] for history in result.histories]
    rows = []
    for index, combination in enumerate(combinations):
        of_row = last[index * seeds : (index + 1) * seeds]
        accuracies = [
            record.validation_accuracy
            if math.isfinite(record.loss) and math.isfinite(record.validation_loss or 0.0)
            else None
            for record in of_row
        ]
        rows.append(_row(combination, accuracies))
    return rows


def _row(hyperparams: HyperParams, accuracies: list[float | None]) -> dict[str, Any]:
    """Returns a row of `sweep.json`; it has no mean if a run diverged."""
    good = [accuracy for accuracy in accuracies if accuracy is not None]
    complete = len(good) == len(accuracies)
    return {
        **hyperparams._asdict(),
        "accuracies": accuracies,
        "mean": statistics.fmean(good) if complete else None,
        "std": statistics.stdev(good) if complete and len(good) > 1 else None,
    }
