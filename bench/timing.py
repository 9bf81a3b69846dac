"""Timing: after a warm-up, until results are ready, repeated, and interleaved between programs."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """A summary of the seconds of several runs.

    Attributes:
        median: the median, in seconds.
        low: the fastest run, in seconds.
        high: the slowest run, in seconds.
        runs: the number of runs.
        samples: the seconds of each.
    """

    median: float
    low: float
    high: float
    runs: int
    samples: list[float]


def summarize(seconds: list[float]) -> Timing:
    """Summarizes the seconds of several runs."""
    return Timing(statistics.median(seconds), min(seconds), max(seconds), len(seconds), seconds)


def timed(run: Callable[[], Any]) -> float:
    """Times one run, from the call until its results are ready; returns seconds."""
    import jax

    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def interleaved[Name](
    runs: Mapping[Name, Callable[[], Any]],
    repeats: int,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[Callable[[], Any]], float] = timed,
) -> dict[Name, Timing]:
    """Times functions in turns, so that changes in the machine's load affect all of them.

    Ctrl-C ends it; the result is then what has been measured.

    Args:
        runs: the functions by name. Each runs once before, as a warm-up.
        repeats: how many times to time each.
        say: called with what is done.
        clock: runs a function and returns its seconds.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in runs}
    try:
        for turn in range(repeats + 1):
            say(f"turn {turn} of {repeats}" if turn else "warm-up")
            for name, run in runs.items():
                time_of_run = clock(run)
                if turn:
                    seconds[name].append(time_of_run)
    except KeyboardInterrupt:
        say("interrupted; what was measured is kept")
    return {name: summarize(values) for name, values in seconds.items() if values}


def per_call(run: Callable[[], Any], min_seconds: float = 0.02) -> float:
    """Times a short function: seconds per call in the best of five loops of at least `min_seconds`."""
    count, seconds = 1, timed(run)
    while (seconds := _loop(run, count)) < min_seconds:
        count = max(count + 1, int(count * min(10, 1.2 * min_seconds / max(seconds, 1e-9))))
    return min(seconds, *(_loop(run, count) for _ in range(4))) / count


def _loop(run: Callable[[], Any], count: int) -> float:
    import jax

    start = time.perf_counter()
    for _ in range(count):
        last = run()
    jax.block_until_ready(last)
    return time.perf_counter() - start
