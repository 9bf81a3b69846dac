"""How everything here is timed: warm, to the end, several times, one taking turns with the other."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Seconds of several runs.

    Attributes:
        median: of all runs.
        low, high: the fastest and the slowest.
        runs: how many.
    """

    median: float
    low: float
    high: float
    runs: int


def summarize(seconds: list[float]) -> Timing:
    """The seconds of several runs in short."""
    return Timing(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one run, from its call until all that it returns has been computed."""
    import jax

    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def interleaved(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Times each in turn, `repeats` times over, so that all share the machine's good and bad moments.

    Each runs once before, untimed.
    """
    for run in runs.values():
        timed(run)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    return {name: summarize(found) for name, found in seconds.items()}


def per_call(run: Callable[[], Any], least: float = 0.02) -> float:
    """Seconds of one call of a short function: the best of five loops that take `least` seconds each."""
    count, seconds = 1, timed(run)
    while (seconds := _loop(run, count)) < least:
        count = max(count + 1, int(count * min(10, 1.2 * least / max(seconds, 1e-9))))
    return min(seconds, *(_loop(run, count) for _ in range(4))) / count


def _loop(run: Callable[[], Any], count: int) -> float:
    import jax

    start = time.perf_counter()
    for _ in range(count):
        last = run()
    jax.block_until_ready(last)
    return time.perf_counter() - start
